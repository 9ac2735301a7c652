"""Words of regions of the map: those that were planted there."""

from __future__ import annotations

import dataclasses

import numpy as np
from datasets import Dataset

from itl_hf.report.explorer.map_words import grouped_points, map_words
from itl_hf.text import TextRows

PLACES = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0], [10.0, 10.0]])
WORDS = ["volcano", "harbour", "cathedral", "\u202ebridge"]


def planted(explorer_data, rows=240):
    generator = np.random.default_rng(0)
    kinds = generator.integers(0, 4, rows)
    points = (PLACES[kinds] + 0.3 * generator.normal(size=(rows, 2))).astype(np.float32)
    texts = [f"Tell them something about this {WORDS[kind]}, number {row}." for row, kind in enumerate(kinds)]
    layout = dataclasses.replace(explorer_data.selection.layout, pool=points, pool_rows=np.arange(rows))
    selection = dataclasses.replace(explorer_data.selection, layout=layout)
    return dataclasses.replace(
        explorer_data, selection=selection, text_rows=TextRows(Dataset.from_dict({"text": texts}))
    )


def test_each_region_has_its_own_word_and_none_that_all_have(explorer_data):
    labels = map_words(planted(explorer_data))
    for x, y, label in labels:
        nearest = int(((PLACES - [x, y]) ** 2).sum(1).argmin())
        assert label == WORDS[nearest].removeprefix("\u202e")
    assert {label for _, _, label in labels} == {"volcano", "harbour", "cathedral", "bridge"}


def test_without_text_there_are_no_words(bare):
    assert map_words(bare) == []


def test_groups_are_those_of_points_that_lie_together():
    generator = np.random.default_rng(1)
    kinds = np.repeat(np.arange(4), 30)
    groups, centres = grouped_points(PLACES[kinds] + 0.1 * generator.normal(size=(120, 2)), 4)
    assert len(np.unique(groups)) == 4
    assert all(len(np.unique(groups[kinds == kind])) == 1 for kind in range(4))
    distances = ((centres[:, None] - PLACES[None]) ** 2).sum(-1)
    assert distances.min(1).max() < 0.01


def test_equal_points_are_one_group():
    groups, centres = grouped_points(np.ones((7, 2)), 3)
    assert (groups.tolist(), len(centres)) == ([0] * 7, 1)
