"""What one selection has that the other lacks."""

from __future__ import annotations

import dataclasses

import numpy as np

from itl_hf.report.explorer.comparison import compare, counts, places_on_map
from tests.report.explorer.made import make


def test_rows_are_matched_by_number(made, baseline):
    comparison = compare(made.selection, baseline.selection)
    mine, theirs = set(made.selection.indices.tolist()), set(baseline.selection.indices.tolist())
    assert not comparison.by_text
    assert {int(made.selection.indices[here]) for here, _ in comparison.both} == mine & theirs
    assert all(made.selection.indices[here] == baseline.selection.indices[there] for here, there in comparison.both)
    assert {int(made.selection.indices[place]) for place in comparison.only_first} == mine - theirs
    assert {int(baseline.selection.indices[place]) for place in comparison.only_second} == theirs - mine
    assert comparison.overlap == len(mine & theirs) / len(mine | theirs)


def test_a_row_that_was_picked_twice_counts_twice(made):
    twice = dataclasses.replace(made.selection, indices=np.array([1, 1, 2]))
    once = dataclasses.replace(made.selection, indices=np.array([1, 3]))
    comparison = compare(twice, once)
    assert (comparison.both, comparison.only_first, comparison.only_second) == ([(0, 0)], [1, 2], [1])


def test_rows_of_different_pools_are_matched_by_text(made, tmp_path):
    other = make(tmp_path, rows=130).selection
    comparison = compare(made.selection, other)
    assert comparison.by_text
    for here, there in comparison.both:
        assert made.selection.dataset[here]["prompt"] == other.dataset[there]["prompt"]
    places = places_on_map(made.selection.layout, made.selection, other, comparison)
    assert np.isnan(places[comparison.only_second]).all()


def test_sources_are_counted(made, baseline):
    rows = counts(made.selection, baseline.selection)
    assert sum(first for _, first, _ in rows) == len(made.selection)
    assert sum(second for _, _, second in rows) == len(baseline.selection)


def test_places_on_the_map(made, baseline):
    first, second = made.selection, baseline.selection
    places = places_on_map(first.layout, first, second, compare(first, second))
    np.testing.assert_allclose(places, first.layout.pool[second.indices], atol=1e-5)
    # Other features, other axes: the first one's map is asked instead.
    moved = dataclasses.replace(
        second,
        record=dataclasses.replace(second.record, standardization_name="scale"),
        layout=dataclasses.replace(second.layout, picks=second.layout.picks + 99),
    )
    np.testing.assert_allclose(places_on_map(first.layout, first, moved, compare(first, moved)), places, atol=1e-5)
