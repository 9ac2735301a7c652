import json
import shutil

import datasets
import numpy as np
import pytest

from itl_hf.embedding.store import FeatureStore

FINGERPRINT = {"model": "tiny", "layer": 2, "revision": None, "scale": 0.1}
VALUES = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)


def open_store(directory, fingerprint=FINGERPRINT, rows=10, dimension=3, shard_rows=4):
    return FeatureStore(directory, fingerprint, rows=rows, dimension=dimension, shard_rows=shard_rows)


@pytest.fixture
def full(tmp_path):
    store = open_store(tmp_path / "store")
    for shard in store.missing():
        store.write(shard, VALUES[slice(*store.row_range(shard))])
    return store


def test_round_trip(full):
    again = open_store(full.directory)
    assert again.missing() == []
    np.testing.assert_array_equal(again.features(), VALUES)
    np.testing.assert_array_equal(again.shard(2), VALUES[8:])
    assert sorted(path.name for path in full.directory.iterdir()) == [
        "manifest.json",
        *(f"shard-0000{i}.arrow" for i in range(3)),
    ]


def test_a_new_store_misses_everything(tmp_path):
    store = open_store(tmp_path)
    assert store.missing() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"rows 0 to 3.* is absent or damaged"):
        store.features()


def test_one_shard_is_mapped_not_copied(tmp_path):
    store = open_store(tmp_path, shard_rows=64)
    store.write(0, VALUES)
    features = store.features()
    assert not features.flags.owndata
    assert not features.flags.writeable
    np.testing.assert_array_equal(features, VALUES)


def test_plain_datasets_reads_a_shard(full):
    shard = datasets.Dataset.from_file(str(full.directory / "shard-00001.arrow"))
    assert shard.features["features"].length == 3
    np.testing.assert_array_equal(shard.with_format("numpy")["features"], VALUES[4:8])


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[:-30]
    elif how == "empty":
        data = bytearray()
    elif how == "bit flip":
        value = VALUES[5].tobytes()
        data[data.index(value)] ^= 1
    elif how == "other shape":
        shutil.copy(path.with_name("shard-00002.arrow"), path)
        return
    path.write_bytes(data)


@pytest.mark.parametrize("how", ["truncated", "empty", "bit flip", "other shape"])
def test_a_damaged_shard_is_missing(full, how):
    damage(full.directory / "shard-00001.arrow", how)
    again = open_store(full.directory)
    with pytest.raises(ValueError, match=r"shard-00001.arrow \(rows 4 to 7\) is absent or damaged"):
        again.features()
    assert again.missing() == [1]


def test_a_failed_write_leaves_nothing(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("no space left on device")))
    with pytest.raises(OSError, match="no space left"):
        store.write(0, VALUES[:4])
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert store.missing() == [0, 1, 2]


def test_a_mismatch_says_what_differs(full):
    with pytest.raises(ValueError, match="holds features made") as error:
        open_store(full.directory, {**FINGERPRINT, "layer": 3, "span": "prompt"}, rows=11)
    text = str(error.value)
    assert "layer: 2 there, 3 now" in text
    assert "span: '(none)' there, 'prompt' now" in text
    assert "rows: 10 there, 11 now" in text
    assert "model" not in text


def test_a_store_keeps_its_own_shard_size(full):
    again = open_store(full.directory, shard_rows=7)
    assert again.shard_rows == 4
    assert again.missing() == []


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not a feature store: it has files"):
        open_store(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{", json.dumps({"format": 99, "fingerprint": {}, "shard_rows": 4}), "[]"])
def test_a_damaged_manifest(full, text):
    (full.directory / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="damaged or of another version"):
        open_store(full.directory)


@pytest.mark.parametrize("features", [VALUES[:3], VALUES[:4].astype(np.float64), VALUES[:4, :2]])
def test_wrong_features_are_refused(tmp_path, features):
    with pytest.raises(ValueError, match="takes float32 of shape"):
        open_store(tmp_path).write(0, features)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="shard_rows"):
        open_store(tmp_path, shard_rows=0)
    with pytest.raises(IndexError, match="the store has 3"):
        open_store(tmp_path).row_range(3)
