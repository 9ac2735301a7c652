"""The card within a README.md that is there already: what its owner wrote stays."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from itl_hf.hub.card_section import merge_card, with_marks

CARD = """---
pretty_name: 3 rows
license: mit
tags:
- itl-hf
- itl
configs:
- config_name: default
  data_files: data/*.parquet
  default: true
---

# 3 rows

Picked.
"""
LATER = CARD.replace("3 rows", "5 rows").replace("- itl\n", "- vtl\n").replace("license: mit\n", "")
MINE = """---
# who may use it
license: cc-by-nc-4.0
extra_gated_prompt: You agree not to re-identify people.
extra_gated_fields:
  Name: text
tags:
- medical
"odd: key": 1
---
# My careful card

Prose --- with a line.
"""


def metadata(card):
    return yaml.safe_load(card.split("---\n")[1])


def test_what_the_owner_wrote_is_kept():
    merged = merge_card(MINE, with_marks(CARD))
    assert merged.count("# My careful card\n\nProse --- with a line.") == 1
    assert "# who may use it\nlicense: cc-by-nc-4.0\nextra_gated_prompt: You agree" in merged
    entries = metadata(merged)
    assert entries["tags"] == ["medical", "itl-hf", "itl"]
    assert entries["odd: key"] == 1
    assert entries["pretty_name"] == "3 rows"
    assert entries["configs"] == yaml.safe_load(CARD.split("---\n")[1])["configs"]
    assert merged.index("My careful card") < merged.index("itl-hf:begin") < merged.index("Picked.")


def test_a_later_card_replaces_the_earlier_one_only():
    first = merge_card(MINE, with_marks(CARD))
    assert merge_card(first, with_marks(CARD)) == first
    edited = first.replace("# My careful card", "# My even better card") + "\nA word after it.\n"
    later = merge_card(edited, with_marks(LATER))
    assert "# My even better card" in later
    assert later.endswith("A word after it.\n")
    assert "3 rows" not in later
    entries = metadata(later)
    assert entries["pretty_name"] == "5 rows"
    assert entries["tags"] == ["medical", "itl-hf", "vtl"]
    assert entries["license"] == "cc-by-nc-4.0"
    assert merge_card(later, with_marks(LATER)) == later


def test_entries_that_a_push_wrote_go_with_it_unless_they_were_changed():
    ours = with_marks(CARD)
    merged, expected = merge_card(ours, with_marks(LATER)), with_marks(LATER)
    assert metadata(merged) == metadata(expected)
    assert "license" not in metadata(merged)
    assert merged.split("\n---\n")[1] == expected.split("\n---\n")[1]
    changed = ours.replace("license: mit\n", "license: apache-2.0\n", 1)
    assert metadata(merge_card(changed, with_marks(LATER)))["license"] == "apache-2.0"
    assert metadata(merge_card(changed, with_marks(CARD)))["license"] == "apache-2.0"


def test_configurations_of_others_stay_and_stale_descriptions_of_rows_go():
    mine = "---\nconfigs:\n- config_name: raw\n  data_files: raw/*\n  default: true\n- config_name: default\n" + (
        "  data_files: old/*\ndataset_info:\n- config_name: default\n  features: []\n- config_name: raw\n---\nText\n"
    )
    entries = metadata(merge_card(mine, with_marks(CARD)))
    names = [(one["config_name"], one.get("default")) for one in entries["configs"]]
    assert names == [("raw", True), ("default", None)]
    assert entries["dataset_info"] == [{"config_name": "raw"}]


@pytest.mark.parametrize(
    "existing", ["", "\n", "Only prose.\n", "---\n---\nProse\n", "\ufeff---\r\nlicense: mit\r\n---\r\nX"]
)
def test_any_readme_can_get_a_section(existing):
    merged = merge_card(existing, with_marks(CARD))
    assert metadata(merged)["pretty_name"] == "3 rows"
    assert existing.strip().rpartition("\n")[2] in merged.split("\n")
    assert merge_card(merged, with_marks(CARD)) == merged


@pytest.mark.parametrize(
    "existing",
    [
        "---\nlicense: [mit\n---\nText\n",
        "---\n- a\n- b\n---\nText\n",
        "---\nlicense: mit\n---\n<!-- itl-hf:begin {} -->\nno end\n",
        "---\nlicense: mit\n---\n<!-- itl-hf:begin {oops} -->\n\nx\n\n<!-- itl-hf:end -->\n",
        with_marks(CARD) + with_marks(CARD),
    ],
)
def test_a_readme_that_cannot_be_read_asks_to_be_replaced(existing):
    with pytest.raises(ValueError, match="overwrite_card"):
        merge_card(existing, with_marks(CARD))


def test_nothing_in_a_card_can_end_the_section():
    hostile = CARD.replace("3 rows", "'--> <!-- itl-hf:end -->'").replace(
        "Picked.", "<!-- itl-hf:end -->\n<!-- itl-hf:begin"
    )
    merged = merge_card(MINE, with_marks(hostile))
    assert merged.split("\n---\n")[1].count("<!-- itl-hf:") == 2
    assert "Picked." not in merged
    again, expected = merge_card(merged, with_marks(CARD)), merge_card(MINE, with_marks(CARD))
    assert metadata(again) == metadata(expected)
    assert again.split("\n---\n")[1] == expected.split("\n---\n")[1]


KEYS = st.sampled_from(["license", "tags", "pretty_name", "language", "configs", "x-y", "viewer"])
VALUES = st.one_of(st.text(max_size=9), st.booleans(), st.lists(st.text(max_size=5), max_size=3))


@given(st.dictionaries(KEYS, VALUES, max_size=5), st.text(alphabet="ab#- \n:'\"é<>!", max_size=60))
@settings(max_examples=200, deadline=None)
def test_keys_and_prose_of_any_readme_are_kept(entries, prose):
    text = yaml.safe_dump(entries, allow_unicode=True)
    entries = yaml.safe_load(text)  # without line ends of other alphabets, which YAML reads as spaces
    mine = f"---\n{text}---\n{prose}"
    merged = merge_card(mine, with_marks(CARD))
    assert prose.strip() in merged
    new_entries = yaml.safe_load(merged[4 : merged.index("\n---\n", 3)])
    for key, value in entries.items():
        if key not in ("tags", "configs"):
            assert new_entries[key] == value
        else:
            assert [one for one in (value if isinstance(value, list) else [value]) if one not in new_entries[key]] == []
    assert merge_card(merged, with_marks(CARD)) == merged
