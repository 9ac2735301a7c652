"""Selecting again is selecting: the same picks where nothing is dropped, and those of a pool without the rows where
something is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from itl_hf import Selection, SelectionConstraints, select_rows
from itl_hf.report.explorer import gather
from itl_hf.report.explorer.reselect import select_again
from tests.report.explorer.made import make


def test_nothing_dropped_gives_the_same_picks(explored, made):
    again = select_again(explored, [])
    np.testing.assert_array_equal(again.indices, made.selection.indices)
    np.testing.assert_allclose(again.target_variance, made.selection.target_variance)
    np.testing.assert_allclose(again.layout.picks, made.selection.layout.picks, atol=1e-5)


def test_dropped_rows_are_not_picked_and_the_picks_before_them_stay(explored, made):
    dropped = made.selection.indices[[4, 9]].tolist()
    again = select_again(explored, dropped)
    assert len(again) == len(made.selection)
    assert not set(dropped) & set(again.indices.tolist())
    np.testing.assert_array_equal(again.indices[:4], made.selection.indices[:4])
    assert again.record.constraints["exclude"] == sorted(dropped)
    assert made.selection.screening is not None
    assert again.screening is None


def test_the_picks_are_those_of_a_pool_without_the_rows(tmp_path):
    # Without preparation, which is fitted on all rows, both ways see the same features.
    one = make(tmp_path, standardize=False, kernel="linear", noise_std=1.0, picks=12)
    dropped = sorted(one.selection.indices[[0, 3]].tolist())
    again = select_again(gather(one.selection, pool=one.pool, store=one.store), dropped)
    kept = np.delete(np.arange(len(one.pool)), dropped)
    rest = select_rows(
        one.pool_features[kept], one.target_features, 12, standardize=False, kernel="linear", noise_std=1.0
    )
    np.testing.assert_array_equal(again.indices, kept[rest.indices])


@pytest.mark.parametrize("acquisition", ["vtl", "cosine", "random", "bm25", "round_robin"])
def test_other_acquisitions_keep_their_options(tmp_path, acquisition):
    texts = {"texts": (["word"] * 120, ["word"] * 6)} if acquisition == "bm25" else {}
    one = make(tmp_path, acquisition=acquisition, kernel="rbf", picks=8, **texts)
    explored = gather(one.selection, pool=one.pool, store=one.store)
    assert explored.obstacle == ""
    dropped = int(select_again(explored, []).indices[0])
    assert dropped not in select_again(explored, [dropped]).indices


def test_rows_with_the_same_text_go_together(tmp_path):
    one = make(tmp_path, picks=40)
    first = int(one.selection.indices[0])
    equal = np.arange(len(one.pool))
    twin = int(one.selection.indices[1])
    equal[twin] = first
    explored = dataclasses.replace(gather(one.selection, pool=one.pool, store=one.store), equal=equal)
    assert not {first, twin} & set(select_again(explored, [first]).indices.tolist())


def test_constraints_in_the_record_hold_again(tmp_path):
    constraints = SelectionConstraints(groups="task", group_shares=0.25, costs="cost", token_budget=60.0)
    one = make(tmp_path, constraints=constraints, picks=16)
    again = select_again(gather(one.selection, pool=one.pool, store=one.store), one.selection.indices[:2].tolist())
    tasks = again.dataset["task"][:]
    assert max(tasks.count(name) for name in tasks) <= 4
    assert sum(again.dataset["cost"][:]) <= 60


def test_another_number_of_rows(explored):
    assert len(select_again(explored, [], 7)) == 7
    with pytest.raises(ValueError, match="only 119 rows are left to pick 120 from"):
        select_again(explored, [0], 120)


def test_without_features_it_says_why(bare):
    with pytest.raises(ValueError, match="--store"):
        select_again(bare, [1])


def test_rows_outside_the_drawn_sample_find_their_place(explored, made):
    layout = made.selection.layout
    drawn = np.arange(0, 120, 2)
    sparse = dataclasses.replace(layout, pool=layout.pool[drawn], pool_rows=layout.pool_rows[drawn])
    thin = dataclasses.replace(explored, selection=dataclasses.replace(made.selection, layout=sparse))
    again = select_again(thin, [])
    np.testing.assert_allclose(again.layout.picks, layout.picks, atol=1e-4)


def test_on_a_umap_map_they_lie_at_a_row_that_is_drawn(explored, made):
    layout = made.selection.layout
    sparse = dataclasses.replace(layout, pool=layout.pool[::2], pool_rows=layout.pool_rows[::2], method="umap")
    thin = dataclasses.replace(explored, selection=dataclasses.replace(made.selection, layout=sparse))
    drawn = {tuple(place) for place in sparse.pool.tolist()}
    assert all(tuple(place) in drawn for place in select_again(thin, []).layout.picks.tolist())


def test_what_comes_out_is_a_selection_like_any_other(explored, made, tmp_path):
    again = select_again(explored, [int(made.selection.indices[0])])
    loaded = Selection.load(again.save(tmp_path / "again"))
    assert loaded.indices.tolist() == again.indices.tolist()
    assert "targets" in loaded.diagnose().summary()
    assert (loaded.irreducible <= loaded.target_variance[-1] + 1e-12).all()
