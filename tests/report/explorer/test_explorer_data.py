"""Stored features and equal rows are found; missing data is reported as the reason why selecting again is off."""

from __future__ import annotations

import dataclasses

import pytest

from itl_hf.report.explorer import gather
from itl_hf.report.explorer.explorer_data import NO_FEATURES, NO_POOL


def test_stored_features_are_found_by_the_record(explorer_data, made):
    assert explorer_data.obstacle == ""
    assert (explorer_data.pool_features[:] == made.pool_features).all()
    assert (explorer_data.target_features[:] == made.target_features).all()


def test_missing_data_is_the_obstacle(made, bare):
    assert bare.obstacle == NO_FEATURES
    assert gather(made.selection, pool=made.pool).obstacle == NO_FEATURES
    assert gather(made.selection, store=made.store).obstacle == NO_POOL


def test_another_pool_raises(made):
    changed = made.pool.map(lambda row, i: {"prompt": "other"} if i == 7 else row, with_indices=True)
    with pytest.raises(ValueError, match="--pool holds other rows"):
        gather(made.selection, pool=changed)
    with pytest.raises(ValueError, match="--pool holds other rows"):
        gather(made.selection, pool=made.pool.select(range(50)))


def test_a_store_without_the_features_raises(made, tmp_path):
    with pytest.raises(ValueError, match="holds no features of this selection's pool"):
        gather(made.selection, pool=made.pool, store=tmp_path)


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
def test_incomplete_records_are_the_obstacle(made, record, reason):
    selection = dataclasses.replace(made.selection, record=dataclasses.replace(made.selection.record, **record))
    assert reason in gather(selection, pool=made.pool, store=made.store).obstacle


def test_rows_with_the_same_text_have_the_same_number(made):
    pool = made.pool.select([*range(119), 3])
    record = dataclasses.replace(made.selection.record, pool_fingerprint=None)
    explorer_data = gather(dataclasses.replace(made.selection, record=record), pool=pool)
    assert explorer_data.text_ids[119] == explorer_data.text_ids[3]
    assert len(set(explorer_data.text_ids.tolist())) == 119
