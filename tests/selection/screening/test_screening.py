"""Copies: what counts as one, what does not, and where they are found."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch

from itl_hf import ITL, Embedder, Selection, Selector
from itl_hf.embedding.row_reading import read_dataset
from itl_hf.selection.diagnosis.notices import notices, num_informative_picks
from itl_hf.selection.result.coverage import pool_groups
from itl_hf.selection.screening.overlap import MOST_HOLDERS, NEAR, Corpus
from itl_hf.selection.screening.screening import Screening, screen
from itl_hf.text import as_dataset, plain_text
from itl_hf.text.normalization import normalize_text

STORY = "A small dog ran across the wide street while it was raining and nobody was there to call it back."
OTHER = "Three bakers in the old town agreed to sell their bread at noon and to close before the market opens."


class Letters(Embedder):
    """Features: how often each letter occurs."""

    dimension = 26

    def fingerprint(self):
        return {"embedder": "letters"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        texts = [(row.get("prompt") or row.get("text")).lower() for row in rows]
        return torch.tensor([[text.count(chr(97 + i)) for i in range(26)] for text in texts], dtype=torch.float32)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        (STORY.upper(), True),
        (STORY.replace("raining", "snowing"), True),
        (f"Please read this. {STORY} What happened?", True),
        (STORY[: len(STORY) // 2], False),
        (OTHER, False),
    ],
)
def test_a_text_with_small_changes_is_near(changed, found):
    assert bool(Corpus({0: changed}).near(STORY)) is found


def screen_rows(pool, targets, picks, nearest):
    prompts = [plain_text(row)[0] for row in targets]
    return screen(pool, picks, nearest, read_dataset(pool), prompts)


def test_wording_that_many_share_does_not_make_copies():
    template = "Solve the following problem and give only the result as your final answer: {} plus {} is"
    texts = {i: template.format(i, 7 * i) for i in range(MOST_HOLDERS + 1)}
    assert Corpus(texts).near(template.format(100, 3)) == {}
    assert Corpus(texts).near_pairs(list(texts)) == []


def test_signs_and_numbers_count():
    assert normalize_text("2 + 3") != normalize_text("2 - 3")
    assert Corpus({0: "12 / 18 = 2 / 3 and 4 / 6"}).near("13 - 19 = 5 - 7 and 8 - 9") == {}


def test_a_short_text_in_a_long_one_is_no_duplicate_of_it():
    assert Corpus({0: STORY, 1: f"{STORY} {OTHER}"}).near_pairs([0, 1]) == []


def pool():
    rows = [{"prompt": f"{OTHER[i:]} {i}", "completion": "no"} for i in range(20)]
    rows[7] = {"prompt": STORY.upper(), "completion": "yes"}
    rows[11] = {"prompt": STORY.replace("raining", "snowing"), "completion": "yes"}
    rows[13] = {"prompt": f"{STORY.upper()} ", "completion": "Yes"}
    return rows


def test_exact_copies_are_found_everywhere_and_near_ones_where_it_is_looked():
    rows, targets = as_dataset(pool()), as_dataset([STORY, "nothing like it at all, whatever one may think of it"])
    nowhere = screen_rows(rows, targets, [0], np.array([[1, 1]]))
    assert {(copy.target, copy.row, copy.how) for copy in nowhere.copies} >= {(0, 7, "exact"), (0, 13, "exact")}
    found = screen_rows(rows, targets, [13, 0, 7, 11], np.array([[11, 1]]))
    assert [(c.target, c.row, c.rank, c.how) for c in found.copies] == [
        *((0, 7, 2, "exact"), (0, 13, 0, "exact"), (0, 11, 3, "near")),
    ]
    assert found.copies[2].share >= NEAR
    assert [(d.rank, d.of, d.how) for d in found.duplicates if d.how == "exact"] == [(2, 0, "exact")]
    assert (3, 0, "near") in [(d.rank, d.of, d.how) for d in found.duplicates]
    assert found.targets_in_pool == found.targets_among_picks == [0]
    assert found.contaminated_rows == [7, 11, 13]


def test_a_row_picked_again_is_no_copy():
    found = screen_rows(as_dataset(pool()), as_dataset([OTHER[:40]]), [3, 3, 3], np.array([[3]]))
    assert found.duplicates == ()


def test_the_selection_warns_and_keeps_what_was_found(tmp_path):
    with pytest.warns(UserWarning, match=r"1 of the targets is among the picks.*rows of the pool"):
        selection = Selector(Letters()).select(pool(), [{"prompt": STORY}], 4)
    assert selection.screening is not None
    assert selection.screening.targets_among_picks == [0]
    loaded = Selection.load(selection.save(tmp_path / "selected"))
    assert loaded.screening == selection.screening
    assert STORY.lower() not in json.dumps(loaded.record.to_json()).lower()
    said = str(loaded.diagnose())
    assert "Note: 1 target is among the picks" in said
    assert "are copies of an earlier pick" in said


def test_a_clean_selection_says_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selection = Selector(Letters()).select(pool()[:6], [{"prompt": "zebras and quizzes"}], 3)
    assert selection.screening == Screening()
    assert [notice.kind for notice in notices(selection) if notice.kind == "contamination"] == []


def test_a_selection_of_an_earlier_version_loads(tmp_path):
    folder = Selector(Letters()).select(pool()[:6], [{"prompt": "zebras"}], 3).save(tmp_path / "selected")
    meta = json.loads((folder / "selection.json").read_text())
    for name in ("screening", "coverage", "undirected"):
        meta["record"].pop(name, None)
    meta.pop("version")  # the first versions had no checksum of this file
    (folder / "selection.json").write_text(json.dumps(meta))
    loaded = Selection.load(folder)
    assert loaded.screening is None
    assert [notice for notice in notices(loaded) if notice.kind != "negligible"] == []


@pytest.mark.parametrize(
    ("gains", "picks"), [([1.0, 1.0], 2), ([5.0, 5.0, 1e-3, 1e-3], 2), ([0.0, 0.0], 2), ([], 0), ([1.0], 1)]
)
def test_enough_is_where_the_rest_tells_next_to_nothing(gains, picks):
    assert num_informative_picks(np.array(gains)) == picks


def test_an_objective_without_direction_is_recorded():
    with pytest.warns(UserWarning, match="does not depend on the targets"):
        selection = Selector(Letters(), ITL(1.0, 0.0), kernel="linear", standardize=False).select(
            pool(), [{"prompt": chr(97 + i)} for i in range(26)], 2
        )
    assert [notice.kind for notice in notices(selection)][-1] == "undirected"


def test_groups_of_the_pool_are_counted():
    rows = [{"text": "a", "source": name, "kind": number} for number, name in enumerate("xxyz")]
    assert pool_groups(as_dataset(rows)) == {"column": "source", "rows": {"x": 2, "y": 1, "z": 1}, "others": 0}
    assert pool_groups(as_dataset(rows), "kind")["column"] == "kind"
    assert pool_groups(as_dataset(["a"])) is None
