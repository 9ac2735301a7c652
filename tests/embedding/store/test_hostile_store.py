"""A store that somebody else wrote: absurd numbers take no memory, stray files do not matter."""

from __future__ import annotations

import json
import resource

import numpy as np
import pytest

from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.manifest import MANIFEST_NAME, _hash


@pytest.fixture
def store(tmp_path):
    store = FeatureStore(tmp_path / "store", {"embedder": "e"}, rows=4, dimension=2, shard_rows=2)
    for shard in range(2):
        store.write(shard, np.full((2, 2), shard, dtype=np.float32))
    return store.directory


def forge(directory, **changes):
    """Changes the manifest and its hash, as somebody who knows the format."""
    path = directory / MANIFEST_NAME
    values = json.loads(path.read_text())
    values.pop("sha256")
    values |= changes
    path.write_text(json.dumps({**values, "sha256": _hash(values)}))


@pytest.mark.parametrize("value", [-1, 10**30, 2**63, 1.5, True, "4", [], {}])
@pytest.mark.parametrize("name", ["rows", "stored_rows", "dimension", "shard_rows"])
def test_absurd_numbers_are_refused_without_taking_memory(store, name, value):
    forge(store, **{name: value})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=f"{store}"):
        FeatureStore.open(store).features()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024


@pytest.mark.parametrize("changes", [{"rows": 2**40, "stored_rows": 2**40, "shard_rows": 1}, {"shard_rows": 1}])
def test_a_store_of_a_billion_missing_shards_is_unfinished(store, changes):
    forge(store, **changes)
    with pytest.raises(ValueError, match="shards are missing"):
        FeatureStore.open(store)


@pytest.mark.parametrize(
    "changes",
    [{"storage_dtype": "object"}, {"fingerprint": []}, {"fingerprint": None}, {"stored_rows": 9}, {"more": 1}],
)
def test_other_entries_that_no_store_has(store, changes):
    forge(store, **changes)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged or of another version.*Delete"):
        FeatureStore.open(store)


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "[" * 100_000, '"a"', "\x00", "1e999"])
def test_a_manifest_that_is_none(store, text):
    (store / MANIFEST_NAME).write_text(text)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged or of another version"):
        FeatureStore.open(store)


def test_a_manifest_of_gigabytes_is_not_read(store):
    with (store / MANIFEST_NAME).open("r+b") as file:
        file.truncate(2**33)
    with pytest.raises(ValueError, match="too large"):
        FeatureStore.open(store)


def test_stray_files_are_ignored(store):
    for name in ("shard-copy.arrow", "shard-.arrow", "shard-00000 (1).arrow", "shard-0.arrow", ".DS_Store", "notes.md"):
        (store / name).write_bytes(b"stray")
    (store / f"shard-{'9' * 30}.arrow").write_bytes(b"stray")
    (store / "shard-x.arrow").mkdir()
    np.testing.assert_array_equal(FeatureStore.open(store).features()[[0, 3]], [[0, 0], [1, 1]])


@pytest.mark.parametrize("index", [[0, 0, 1], [0, 1, 5, 5], [-1, 0, 1, 2], [[0, 1, 2, 3]]])
def test_an_index_of_another_store_is_refused(tmp_path, index):
    directory = tmp_path / "store"
    store = FeatureStore(directory, {"embedder": "e"}, rows=4, dimension=2, index=np.array([0, 1, 1, 2]))
    store.write(0, np.zeros((3, 2), dtype=np.float32))
    from itl_hf.embedding.store.feature_store import _write_index

    _write_index(directory, np.array(index))
    with pytest.raises(ValueError, match=r"rows\.npy is of another store"):
        FeatureStore.open(directory).features()[[0]]
