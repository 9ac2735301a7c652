"""Pools and targets that are streams."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from itl_hf import Selector
from itl_hf.selection.stream_rows import without_stream
from tests.selection.test_selector import POOL, TARGETS, CharacterCounts

FEATURES = datasets.Features({"text": datasets.Value("string")})


def stream_of(rows):
    return datasets.Dataset.from_list(rows).to_iterable_dataset()


def test_a_stream_gives_the_picks_and_rows_of_the_list():
    expected = Selector(CharacterCounts()).select(POOL, TARGETS, 5)
    selection = Selector(CharacterCounts()).select(stream_of(POOL), stream_of(TARGETS), 5)
    assert selection.indices.tolist() == expected.indices.tolist()
    assert selection.dataset.to_list() == expected.dataset.to_list()
    assert selection.record.pool_fingerprint == expected.record.pool_fingerprint


def test_a_stream_without_column_types_is_read_too():
    stream = datasets.IterableDataset.from_generator(lambda: iter(POOL))
    assert stream.features is None
    expected = Selector(CharacterCounts()).select(POOL, TARGETS, 5)
    assert Selector(CharacterCounts()).select(stream, TARGETS, 5).indices.tolist() == expected.indices.tolist()


def test_a_split_of_streams():
    streams = datasets.IterableDatasetDict({"train": stream_of(POOL)})
    selector = Selector(CharacterCounts())
    assert len(selector.select(streams, TARGETS, 3, pool_split="train")) == 3
    with pytest.raises(ValueError, match=r"pool is an IterableDatasetDict: pass split=, one of \['train'\]"):
        selector.select(streams, TARGETS, 3)
    with pytest.raises(ValueError, match="pool is one stream and has no splits"):
        selector.select(stream_of(POOL), TARGETS, 3, pool_split="train")


def test_rows_of_a_file_that_has_changed_are_read_again(tmp_path):
    path = tmp_path / "pool.jsonl"
    texts = []
    for word in ("old", "new"):
        path.write_text(json.dumps({"text": word}) + "\n")
        stream = datasets.load_dataset("json", data_files=str(path), split="train", streaming=True)
        texts.append(without_stream(stream, "pool", None)[0]["text"][0])
    assert texts == ["old", "new"]


def test_dictionaries_keep_their_own_keys(tmp_path):
    rows = [{"text": "a", "notes": {"one": 1}}, {"text": "b", "notes": {"two": [2]}}, {"text": "c", "notes": {}}]
    path = tmp_path / "pool.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    stream = datasets.load_dataset("json", data_files=str(path), split="train", streaming=True)
    assert list(without_stream(stream, "pool", None)[0]) == rows


def test_an_empty_stream_is_refused():
    empty = datasets.IterableDataset.from_generator(lambda: iter(()), features=FEATURES)
    with pytest.raises(ValueError, match="pool: the stream has no rows"):
        without_stream(empty, "pool", None)


def test_a_stream_that_breaks_off_says_where_and_leaves_no_file():
    def rows():
        yield {"text": "one"}
        yield {"text": "two"}
        raise ConnectionError("connection reset")

    cache = Path(datasets.config.HF_DATASETS_CACHE)
    stream = datasets.IterableDataset.from_generator(rows, features=FEATURES)
    before = set(cache.glob(".stream-*"))
    with pytest.raises(ValueError, match="could not be read after row 1: connection reset"):
        without_stream(stream, "targets", None)
    assert set(cache.glob(".stream-*")) <= before
