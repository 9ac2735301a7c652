"""Comparing two selections: rows in both, rows in only one, sources, and places on the map."""

from __future__ import annotations

import dataclasses

import numpy as np

from itl_hf.report.explorer.comparison import compare, second_picks_on_map, source_counts
from tests.report.explorer.example import make_example


def test_rows_are_matched_by_number(example, baseline):
    comparison = compare(example.selection, baseline.selection)
    mine, theirs = set(example.selection.indices.tolist()), set(baseline.selection.indices.tolist())
    assert not comparison.by_text
    assert {int(example.selection.indices[first_rank]) for first_rank, _ in comparison.both} == mine & theirs
    assert all(
        example.selection.indices[first_rank] == baseline.selection.indices[second_rank]
        for first_rank, second_rank in comparison.both
    )
    assert {int(example.selection.indices[rank]) for rank in comparison.only_first} == mine - theirs
    assert {int(baseline.selection.indices[rank]) for rank in comparison.only_second} == theirs - mine
    assert comparison.overlap == len(mine & theirs) / len(mine | theirs)


def test_a_row_that_was_picked_twice_counts_twice(example):
    twice = dataclasses.replace(example.selection, indices=np.array([1, 1, 2]))
    once = dataclasses.replace(example.selection, indices=np.array([1, 3]))
    comparison = compare(twice, once)
    assert (comparison.both, comparison.only_first, comparison.only_second) == ([(0, 0)], [1, 2], [1])


def test_rows_of_different_pools_are_matched_by_text(example, tmp_path):
    other = make_example(tmp_path, rows=130).selection
    comparison = compare(example.selection, other)
    assert comparison.by_text
    for first_rank, second_rank in comparison.both:
        assert example.selection.dataset[first_rank]["prompt"] == other.dataset[second_rank]["prompt"]
    coordinates = second_picks_on_map(example.selection.layout, example.selection, other, comparison)
    assert np.isnan(coordinates[comparison.only_second]).all()


def test_picks_are_counted_by_source(example, baseline):
    rows = source_counts(example.selection, baseline.selection)
    assert sum(first for _, first, _ in rows) == len(example.selection)
    assert sum(second for _, _, second in rows) == len(baseline.selection)


def test_picks_of_the_second_selection_have_coordinates_on_the_first_map(example, baseline):
    first, second = example.selection, baseline.selection
    coordinates = second_picks_on_map(first.layout, first, second, compare(first, second))
    np.testing.assert_allclose(coordinates, first.layout.pool[second.indices], atol=1e-5)
    # With other features, the axes differ, so the coordinates are those of the row on the first selection's map.
    moved = dataclasses.replace(
        second,
        record=dataclasses.replace(second.record, standardization_name="scale"),
        layout=dataclasses.replace(second.layout, picks=second.layout.picks + 99),
    )
    np.testing.assert_allclose(
        second_picks_on_map(first.layout, first, moved, compare(first, moved)), coordinates, atol=1e-5
    )
