"""Selecting again gives the same picks if no row is dropped, and otherwise those of a pool without the dropped rows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from itl_hf import Selection, SelectionConstraints, select_rows
from itl_hf.report.explorer import gather
from itl_hf.report.explorer.reselect import select_again
from tests.report.explorer.example import make_example


def test_nothing_dropped_gives_the_same_picks(explorer_data, example):
    new_selection = select_again(explorer_data, [])
    np.testing.assert_array_equal(new_selection.indices, example.selection.indices)
    np.testing.assert_allclose(new_selection.target_variance, example.selection.target_variance)
    np.testing.assert_allclose(new_selection.layout.picks, example.selection.layout.picks, atol=1e-5)


def test_dropped_rows_are_not_picked_and_the_picks_before_them_stay(explorer_data, example):
    dropped_rows = example.selection.indices[[4, 9]].tolist()
    new_selection = select_again(explorer_data, dropped_rows)
    assert len(new_selection) == len(example.selection)
    assert not set(dropped_rows) & set(new_selection.indices.tolist())
    np.testing.assert_array_equal(new_selection.indices[:4], example.selection.indices[:4])
    assert new_selection.record.constraints["exclude"] == sorted(dropped_rows)
    assert example.selection.screening is not None
    assert new_selection.screening is None


def test_the_picks_are_those_of_a_pool_without_the_rows(tmp_path):
    # Standardization is fitted on all rows, so it is off here: both selections then use the same features.
    example = make_example(tmp_path, standardize=False, kernel="linear", noise_std=1.0, picks=12)
    dropped_rows = sorted(example.selection.indices[[0, 3]].tolist())
    new_selection = select_again(gather(example.selection, pool=example.pool, store=example.store), dropped_rows)
    remaining_rows = np.delete(np.arange(len(example.pool)), dropped_rows)
    rest = select_rows(
        example.pool_features[remaining_rows],
        example.target_features,
        12,
        standardize=False,
        kernel="linear",
        noise_std=1.0,
    )
    np.testing.assert_array_equal(new_selection.indices, remaining_rows[rest.indices])


@pytest.mark.parametrize("acquisition", ["vtl", "cosine", "random", "bm25", "round_robin"])
def test_other_acquisitions_keep_their_options(tmp_path, acquisition):
    texts = {"texts": (["word"] * 120, ["word"] * 6)} if acquisition == "bm25" else {}
    example = make_example(tmp_path, acquisition=acquisition, kernel="rbf", picks=8, **texts)
    explorer_data = gather(example.selection, pool=example.pool, store=example.store)
    assert explorer_data.obstacle == ""
    dropped_row = int(select_again(explorer_data, []).indices[0])
    assert dropped_row not in select_again(explorer_data, [dropped_row]).indices


def test_rows_with_the_same_text_are_dropped_together(tmp_path):
    example = make_example(tmp_path, picks=40)
    first = int(example.selection.indices[0])
    text_ids = np.arange(len(example.pool))
    twin = int(example.selection.indices[1])
    text_ids[twin] = first
    explorer_data = dataclasses.replace(
        gather(example.selection, pool=example.pool, store=example.store), text_ids=text_ids
    )
    assert not {first, twin} & set(select_again(explorer_data, [first]).indices.tolist())


def test_constraints_in_the_record_hold_again(tmp_path):
    constraints = SelectionConstraints(groups="task", group_shares=0.25, costs="cost", token_budget=60.0)
    example = make_example(tmp_path, constraints=constraints, picks=16)
    new_selection = select_again(
        gather(example.selection, pool=example.pool, store=example.store), example.selection.indices[:2].tolist()
    )
    tasks = new_selection.dataset["task"][:]
    assert max(tasks.count(name) for name in tasks) <= 4
    assert sum(new_selection.dataset["cost"][:]) <= 60


def test_the_number_of_rows_can_change(explorer_data):
    assert len(select_again(explorer_data, [], 7)) == 7
    with pytest.raises(ValueError, match="only 119 rows are left to pick 120 from"):
        select_again(explorer_data, [0], 120)


def test_without_features_it_raises(bare):
    with pytest.raises(ValueError, match="--store"):
        select_again(bare, [1])


def test_picks_outside_the_maps_sample_are_projected(explorer_data, example):
    layout = example.selection.layout
    sample_rows = np.arange(0, 120, 2)
    sparse = dataclasses.replace(layout, pool=layout.pool[sample_rows], pool_rows=layout.pool_rows[sample_rows])
    with_sample = dataclasses.replace(explorer_data, selection=dataclasses.replace(example.selection, layout=sparse))
    new_selection = select_again(with_sample, [])
    np.testing.assert_allclose(new_selection.layout.picks, layout.picks, atol=1e-4)


def test_on_a_umap_map_they_have_the_coordinates_of_a_row_on_the_map(explorer_data, example):
    layout = example.selection.layout
    sparse = dataclasses.replace(layout, pool=layout.pool[::2], pool_rows=layout.pool_rows[::2], method="umap")
    with_sample = dataclasses.replace(explorer_data, selection=dataclasses.replace(example.selection, layout=sparse))
    map_points = {tuple(point) for point in sparse.pool.tolist()}
    assert all(tuple(point) in map_points for point in select_again(with_sample, []).layout.picks.tolist())


def test_the_result_can_be_saved_loaded_and_diagnosed(explorer_data, example, tmp_path):
    new_selection = select_again(explorer_data, [int(example.selection.indices[0])])
    loaded = Selection.load(new_selection.save(tmp_path / "again"))
    assert loaded.indices.tolist() == new_selection.indices.tolist()
    assert "targets" in loaded.diagnose().summary()
    assert (loaded.irreducible <= loaded.target_variance[-1] + 1e-12).all()
