"""Rows that cannot be read: all are listed, or left out."""

from __future__ import annotations

import warnings

import pytest

from itl_hf import SelectionConstraints, Selector
from itl_hf.selection.result.selection import Selection
from itl_hf.text.bad_rows import BadRows
from tests.embedding.fakes import HashEmbedder

BAD = {3: "", 7: None, 11: "  ", 12: [{"role": "user", "content": "a conversation"}]}
POOL = [{"text": BAD.get(i, f"row {i}"), "group": i % 3} for i in range(30)]
EMPTY = "column 'text' is empty. Drop the row or give it text."
GOOD = [i for i in range(30) if i not in BAD]


class Texts(HashEmbedder):
    """Embeds texts, and must never see a bad row."""

    def embed(self, rows, *, first_row=0, on_rows=None):
        assert all(row["text"].strip() for row in rows)
        return super().embed(rows, first_row=first_row, on_rows=on_rows)


def test_all_bad_rows_are_listed_by_kind():
    with pytest.raises(ValueError, match="pool: 4 of 30 rows cannot be read:") as error:
        Selector(Texts()).select(POOL, ["row 1"], 2)
    assert "- 3 rows (3, 7, 11): column 'text' is empty." in str(error.value)
    assert "- 1 row (12): column 'text' holds a conversation" in str(error.value)
    with pytest.raises(ValueError, match="targets: row 1: column 'text' is empty"):
        Selector(Texts()).select(["a", "b"], ["c", ""], 1)


def select(pool, skip, targets=("row 1", "row 20"), **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        selector = Selector(Texts(), on_bad_rows="skip" if skip else "error", **options.pop("selector", {}))
        return selector.select(pool, list(targets), 6, **options)


def test_skipped_rows_change_no_other_pick_and_no_number(tmp_path):
    constraints = SelectionConstraints(exclude=[5, 3], groups="group", group_shares=0.5)
    skipping = select(POOL, True, already_selected=[1], constraints=constraints)
    places = {row: place for place, row in enumerate(GOOD)}
    good_constraints = SelectionConstraints(exclude=[places[5]], groups="group", group_shares=0.5)
    clean = select([POOL[i] for i in GOOD], False, already_selected=[places[1]], constraints=good_constraints)
    assert skipping.indices.tolist() == [GOOD[i] for i in clean.indices]
    assert skipping.gains.tolist() == clean.gains.tolist()
    assert skipping.dataset["text"][:] == [POOL[i]["text"] for i in skipping.indices]
    assert (skipping.pool_size, skipping.record.pool_rows) == (30, 30)
    skipped = Selection.load(skipping.save(tmp_path / "selection")).record.skipped
    assert skipped["pool"]["count"] == 4
    assert skipped["pool"]["kinds"][0] == {"error": EMPTY, "count": 3, "rows": [3, 7, 11]}
    assert "targets" not in skipped


@pytest.mark.parametrize("selector", [{"shortlist": 10}, {"acquisition": "bm25"}, {"store": "store"}])
def test_skipping_with_shortlists_texts_and_stores(selector, tmp_path):
    if "store" in selector:
        selector = {"store": tmp_path / "store"}
    skipping = select(POOL, True, targets=["row 1", "", "row 20"], selector=dict(selector))
    clean = select([POOL[i] for i in GOOD], False, selector=dict(selector))
    assert skipping.indices.tolist() == [GOOD[i] for i in clean.indices]
    assert len(skipping.targets) == 2
    assert skipping.record.skipped["targets"]["kinds"][0]["rows"] == [1]


def test_skipping_is_said_and_extended():
    with pytest.warns(UserWarning, match="pool: left out, because 4 of 30 rows cannot be read"):
        selection = Selector(Texts(), on_bad_rows="skip").select(POOL, ["row 1"], 3)
    clean = Selector(Texts()).select([POOL[i] for i in GOOD], ["row 1"], 3)
    assert selection.extend(20).indices.tolist() == [GOOD[i] for i in clean.extend(20).indices]


def test_what_skipping_cannot_mend():
    with pytest.raises(ValueError, match="already_selected: row 3 cannot be read"):
        select(POOL, True, already_selected=[3])
    with pytest.raises(ValueError, match=r"pool: 2 of 2 rows cannot be read:\n.*\nNo row is left"):
        Selector(Texts(), on_bad_rows="skip").select([{"text": ""}, {"text": None}], ["a"], 1)
    with pytest.raises(ValueError, match="more than the 26 rows"):
        Selector(Texts(), on_bad_rows="skip").select(POOL, ["a"], 27)
    with pytest.raises(ValueError, match="on_bad_rows must be one of"):
        Selector(Texts(), on_bad_rows="ignore")


def test_kinds_ignore_numbers_and_list_ten_rows():
    bad = BadRows()
    for row in range(25):
        bad.add(row, ValueError(f"row {row}: nothing is left of {row + 100} tokens."))
        bad.add(row, ValueError("another error of the same row"))
    assert len(bad) == 25
    assert "- 25 rows (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, ...): nothing is left of 100 tokens." in bad.message(40)
