"""Stored features and equal rows are found; missing data is reported as the reason why selecting again is off."""

from __future__ import annotations

import dataclasses

import pytest

from itl_hf.report.explorer import gather
from itl_hf.report.explorer.explorer_data import NO_FEATURES, NO_POOL


def test_stored_features_are_found_by_the_record(explorer_data, example):
    assert explorer_data.obstacle == ""
    assert (explorer_data.pool_features[:] == example.pool_features).all()
    assert (explorer_data.target_features[:] == example.target_features).all()


def test_missing_data_is_the_obstacle(example, bare):
    assert bare.obstacle == NO_FEATURES
    assert gather(example.selection, pool=example.pool).obstacle == NO_FEATURES
    assert gather(example.selection, store=example.store).obstacle == NO_POOL


def test_another_pool_raises(example):
    changed = example.pool.map(lambda row, i: {"prompt": "other"} if i == 7 else row, with_indices=True)
    with pytest.raises(ValueError, match="--pool holds other rows"):
        gather(example.selection, pool=changed)
    with pytest.raises(ValueError, match="--pool holds other rows"):
        gather(example.selection, pool=example.pool.select(range(50)))


def test_a_store_without_the_features_raises(example, tmp_path):
    with pytest.raises(ValueError, match="holds no features of this selection's pool"):
        gather(example.selection, pool=example.pool, store=tmp_path)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({"already_selected": 3}, "only counts them"),
        ({"kernel_options": {"kernel": "callable", "name": "f"}}, "does not hold all of its kernel"),
        ({"standardization_name": "dimensions (3 dimensions weigh 0.5)"}, "weighted sum"),
        ({"acquisition_name": "mine"}, "'mine' is not one of this package"),
        ({"constraints": {"costs": None, "token_budget": 5}}, "given as numbers"),
    ],
)
def test_incomplete_records_are_the_obstacle(example, record, reason):
    selection = dataclasses.replace(example.selection, record=dataclasses.replace(example.selection.record, **record))
    assert reason in gather(selection, pool=example.pool, store=example.store).obstacle


def test_rows_with_the_same_text_have_the_same_number(example):
    pool = example.pool.select([*range(119), 3])
    record = dataclasses.replace(example.selection.record, pool_fingerprint=None)
    explorer_data = gather(dataclasses.replace(example.selection, record=record), pool=pool)
    assert explorer_data.text_ids[119] == explorer_data.text_ids[3]
    assert len(set(explorer_data.text_ids.tolist())) == 119
