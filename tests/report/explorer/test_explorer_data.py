"""Stored features and equal rows are found; missing data is reported as the reason why selecting again is off."""

from __future__ import annotations

import dataclasses
import shutil

import pytest

from itl_hf import HiddenStates, Selection, Selector
from itl_hf.hub.contents import picked_features
from itl_hf.report.explorer import gather
from itl_hf.report.explorer.explorer_data import NO_FEATURES, NO_POOL
from itl_hf.report.explorer.reselect import select_again
from itl_hf.text import as_dataset
from tests.tiny_models import tiny_model, tiny_tokenizer


def test_stored_features_are_found_by_the_record(explorer_data, example):
    assert explorer_data.obstacle == ""
    assert (explorer_data.pool_features[:] == example.pool_features).all()
    assert (explorer_data.target_features[:] == example.target_features).all()


def test_missing_data_is_the_obstacle(example, bare):
    assert bare.obstacle == NO_FEATURES
    assert gather(example.selection, pool=example.pool).obstacle == NO_FEATURES
    assert gather(example.selection, store=example.store).obstacle == NO_POOL


def test_left_out_the_store_is_the_cache(example, monkeypatch):
    monkeypatch.setenv("ITL_HF_CACHE", str(example.store))
    explorer_data = gather(example.selection, pool=example.pool)
    assert explorer_data.obstacle == ""
    assert (explorer_data.pool_features[:] == example.pool_features).all()
    assert select_again(explorer_data, []).indices.tolist() == example.selection.indices.tolist()
    assert gather(example.selection).obstacle == NO_POOL
    assert gather(example.selection, pool=example.pool, store=False).obstacle == NO_FEATURES


def test_an_unfinished_entry_of_the_cache_counts_as_missing(example, monkeypatch, tmp_path):
    shutil.copytree(example.store, tmp_path / "cache")
    for shard in (tmp_path / "cache").rglob("shard-*"):
        shard.unlink()
    monkeypatch.setenv("ITL_HF_CACHE", str(tmp_path / "cache"))
    assert gather(example.selection, pool=example.pool).obstacle == NO_FEATURES


def test_the_features_of_a_selector_without_a_store_are_found(tmp_path):
    pool = [{"prompt": f"{word} {i}", "completion": "yes"} for word in ("apple", "river", "stone") for i in range(5)]
    selector = Selector(HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer()))
    selection = Selection.load(selector.select(pool, ["apple river"], 4).save(tmp_path / "selected"))
    explorer_data = gather(selection, pool=as_dataset(pool))
    assert explorer_data.obstacle == ""
    assert select_again(explorer_data, []).indices.tolist() == selection.indices.tolist()
    assert picked_features(selection).tolist() == explorer_data.pool_features[selection.indices].tolist()


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
