import errno
import json
import os
import resource
import shutil
import signal
import socket
import warnings

import datasets
import numpy as np
import pytest
import torch

from itl_hf.embedding.store.atomic_files import lock_for_writing
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.paths import feature_directory

FINGERPRINT = {"model": "tiny", "layer": 2, "revision": None, "scale": 0.1}
VALUES = np.random.default_rng(0).normal(size=(10, 3)).astype(np.float32)
TOKENS = np.arange(10, 20)


def open_store(directory, fingerprint=FINGERPRINT, rows=10, dimension=3, shard_rows=4, **settings):
    return FeatureStore(directory, fingerprint, rows=rows, dimension=dimension, shard_rows=shard_rows, **settings)


def fill(store, values=VALUES):
    for shard in store.missing():
        rows = slice(*store.row_range(shard))
        store.write(shard, values[rows].astype(store.storage_dtype), {"tokens": TOKENS[rows]})
    return store


@pytest.fixture
def full(tmp_path):
    return fill(open_store(tmp_path / "store"))


def names(directory):
    return sorted(path.name for path in directory.iterdir())


def test_round_trip(full):
    again = open_store(full.directory)
    assert again.missing() == []
    np.testing.assert_array_equal(again.features(), VALUES)
    np.testing.assert_array_equal(again.shard(2), VALUES[8:])
    assert names(full.directory) == ["manifest.json", *(f"shard-0000{i}.arrow" for i in range(3))]


def test_a_new_store_misses_everything(tmp_path):
    store = open_store(tmp_path)
    assert store.missing() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"shard-00000.arrow \(stored rows 0 to 3\) is absent"):
        store.features()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_shard_is_mapped_not_copied(tmp_path, dtype):
    store = fill(open_store(tmp_path, shard_rows=64, dtype=dtype))
    shard = store.shard(0)
    assert shard.dtype == np.dtype(dtype)
    assert not shard.flags.owndata
    assert not shard.flags.writeable
    np.testing.assert_array_equal(shard, VALUES.astype(dtype))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch has no read-only tensors and says so
        assert torch.from_numpy(shard).data_ptr() == shard.ctypes.data


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_plain_datasets_opens_a_store(tmp_path, dtype):
    store = fill(open_store(tmp_path / "store", dtype=dtype))
    shard = datasets.Dataset.from_file(str(store.path(1)))
    assert (shard.features["features"].length, shard.features["features"].feature.dtype) == (3, dtype)
    np.testing.assert_array_equal(shard.with_format("numpy")["features"][:], VALUES[4:8].astype(dtype))
    files = sorted(str(path) for path in store.directory.glob("*.arrow"))
    whole = datasets.load_dataset("arrow", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert whole["row"] == list(range(10))
    assert whole["tokens"] == TOKENS.tolist()
    np.testing.assert_array_equal(np.array(whole["features"][:], dtype=dtype), VALUES.astype(dtype))


def test_columns(full):
    assert full.column("tokens").tolist() == TOKENS.tolist()
    assert full.column("row").tolist() == list(range(10))
    with pytest.raises(ValueError, match=r"no column 'norm'; it has \['features', 'row', 'tokens'\]"):
        full.column("norm")


@pytest.mark.parametrize("columns", [{"row": TOKENS[:4]}, {"features": TOKENS[:4]}])
def test_reserved_columns(tmp_path, columns):
    with pytest.raises(ValueError, match="the store has its own"):
        open_store(tmp_path).write(0, VALUES[:4], columns)


def test_a_column_of_another_height(tmp_path):
    with pytest.raises(ValueError, match="one number for each of 4 rows"):
        open_store(tmp_path).write(0, VALUES[:4], {"tokens": TOKENS[:3]})


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[:-30]
    elif how == "empty":
        data = bytearray()
    elif how == "bit flip":
        data[data.index(VALUES[5].tobytes())] ^= 1
    elif how == "bit flip in a column":
        data[data.index(TOKENS[4:8].tobytes())] ^= 1
    elif how == "longer":
        data += b"\0"
    elif how == "other shard":
        shutil.copy(path.with_name("shard-00002.arrow"), path)
        return
    path.write_bytes(data)


WAYS = ["truncated", "empty", "bit flip", "bit flip in a column", "longer", "other shard"]


@pytest.mark.parametrize("how", WAYS)
def test_a_damaged_shard_is_named_and_missing(full, how):
    damage(full.directory / "shard-00001.arrow", how)
    again = open_store(full.directory)
    with pytest.raises(ValueError, match=r"shard-00001.arrow \(stored rows 4 to 7\) is damaged \(its? "):
        np.asarray(again.features())
    with pytest.warns(UserWarning, match="computed again:\n  .*shard-00001.arrow: its? "):
        assert again.missing() == [1]


def test_any_flipped_byte_is_found(full):
    path = full.directory / "shard-00001.arrow"
    data = path.read_bytes()
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :])
        with pytest.raises(ValueError, match="is damaged"):
            open_store(full.directory).shard(1)


def test_a_shard_of_another_store_is_refused(full, tmp_path):
    other = fill(open_store(tmp_path / "other", {**FINGERPRINT, "layer": 3}))
    shutil.copy(other.path(1), full.path(1))
    with pytest.raises(ValueError, match="another store"):
        open_store(full.directory).shard(1)


def test_a_full_disk_raises_an_error_and_leaves_a_store_that_can_be_continued(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    store.write(0, VALUES[:4])

    def no_room(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", no_room)
        with pytest.raises(OSError, match=r"no room left on the disk for shard-00001.arrow .* saved before is intact"):
            store.write(1, VALUES[4:8])
    assert names(tmp_path) == ["manifest.json", "shard-00000.arrow"]
    again = open_store(tmp_path)
    assert again.missing() == [1, 2]
    np.testing.assert_array_equal(fill(again).features(), VALUES)


def test_a_file_system_that_refuses_to_write(tmp_path):
    """The operating system refuses within a file, as on a full disk."""
    store = open_store(tmp_path, dimension=3000)
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            store.write(0, np.zeros((4, 3000), dtype=np.float32))
        except OSError as error:
            os._exit(0 if "no room left on the disk for shard-00000.arrow" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert names(tmp_path) == ["manifest.json"]


def test_other_errors_of_the_disk_are_not_changed(tmp_path, monkeypatch):
    store = open_store(tmp_path)
    monkeypatch.setattr("os.replace", lambda *_: (_ for _ in ()).throw(PermissionError("not yours")))
    with pytest.raises(PermissionError, match="not yours"):
        store.write(0, VALUES[:4])
    assert names(tmp_path) == ["manifest.json"]


def test_files_of_a_killed_process_are_deleted(full):
    (full.directory / "shard-00007.arrow.host.123.tmp").write_bytes(b"half")
    assert open_store(full.directory).missing() == []
    with lock_for_writing(full.directory):
        pass
    assert not list(full.directory.glob("*.tmp"))


def test_one_writer_at_a_time(tmp_path):
    with (
        lock_for_writing(tmp_path),
        pytest.raises(BlockingIOError, match="another run is embedding into this directory"),
        lock_for_writing(tmp_path),
    ):
        pass
    with lock_for_writing(tmp_path):  # free again
        pass


def test_a_store_that_another_run_creates_and_embeds_into_is_opened(tmp_path, monkeypatch):
    """The other run may hold the lock for hours; the store can be opened as soon as it is created."""
    (own_end, other_end), number = socket.socketpair(), os.fork()
    if number == 0:
        try:
            with lock_for_writing(tmp_path):
                other_end.sendall(b"locked")
                other_end.recv(1)  # until the test asks for the store
                open_store(tmp_path / "elsewhere")
                (tmp_path / "elsewhere" / "manifest.json").rename(tmp_path / "manifest.json")
                other_end.recv(1)
            os._exit(0)
        finally:
            os._exit(1)  # an error must not go on with the tests in this process
    assert own_end.recv(6) == b"locked"
    with monkeypatch.context() as patch:
        patch.setattr("itl_hf.embedding.store.feature_store._CREATION_SECONDS", 0.2)
        with pytest.raises(BlockingIOError, match="another run is embedding"):
            open_store(tmp_path)
    own_end.sendall(b"1")
    assert open_store(tmp_path).rows == 10
    own_end.sendall(b"1")
    assert os.waitpid(number, 0)[1] == 0


def test_a_mismatch_says_what_differs(full):
    with pytest.raises(ValueError, match="holds features made") as error:
        open_store(full.directory, {**FINGERPRINT, "layer": 3, "span": "prompt"}, rows=11, dtype="float16")
    text = str(error.value)
    assert "layer: 2 there, 3 now" in text
    assert "span: '(none)' there, 'prompt' now" in text
    assert "rows: 10 there, 11 now" in text
    assert "storage_dtype: 'float32' there, 'float16' now" in text
    assert "model" not in text


def test_names_that_the_store_uses_itself(tmp_path):
    open_store(tmp_path, {"rows": "all", "dimension": 3})
    with pytest.raises(ValueError, match="embedder's rows: 'all' there, 'some' now"):
        open_store(tmp_path, {"rows": "some", "dimension": 3})


def test_a_store_keeps_its_own_shard_size(full):
    again = open_store(full.directory, shard_rows=7)
    assert again.shard_rows == 4
    assert again.missing() == []


def test_a_directory_with_other_files_is_refused_and_unchanged(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    with pytest.raises(ValueError, match="is not a feature store: it has files"):
        open_store(tmp_path)
    assert names(tmp_path) == ["thesis.tex"]


@pytest.mark.parametrize("text", ["", "{", json.dumps({"format": 99, "fingerprint": {}, "shard_rows": 4}), "[]"])
def test_a_damaged_manifest(full, text):
    (full.directory / "manifest.json").write_text(text)
    with pytest.raises(ValueError, match="damaged or of another version"):
        open_store(full.directory)


def test_a_changed_manifest_is_found(full):
    path = full.directory / "manifest.json"
    path.write_text(path.read_text().replace('"shard_rows": 4', '"shard_rows": 5'))
    with pytest.raises(ValueError, match="damaged or of another version"):
        FeatureStore.open(full.directory)


@pytest.mark.parametrize("features", [VALUES[:3], VALUES[:4].astype(np.float64), VALUES[:4, :2]])
def test_wrong_features_are_refused(tmp_path, features):
    with pytest.raises(ValueError, match="takes float32 of shape"):
        open_store(tmp_path).write(0, features)


def test_bad_arguments(tmp_path):
    with pytest.raises(ValueError, match="shard_rows"):
        open_store(tmp_path, shard_rows=0)
    with pytest.raises(ValueError, match="dtype must be one of"):
        open_store(tmp_path, dtype="bfloat16")
    with pytest.raises(IndexError, match="the store has 3"):
        open_store(tmp_path).row_range(3)


def test_a_finished_store_opens_without_its_fingerprint(full):
    store = FeatureStore.open(full.directory)
    assert store.fingerprint == FINGERPRINT
    assert (store.rows, store.dimension, store.shard_rows, store.storage_dtype) == (10, 3, 4, "float32")
    np.testing.assert_array_equal(store.features(), VALUES)


def test_opening_an_unfinished_store(full, tmp_path):
    full.path(1).unlink()
    full.path(2).unlink()
    with pytest.raises(ValueError, match=r"2 of 3 shards are missing \(the first is shard-00001.arrow\)"):
        FeatureStore.open(full.directory)
    with pytest.raises(FileNotFoundError, match=r"has no manifest.json"):
        FeatureStore.open(tmp_path / "nowhere")


# Equal rows are stored once: rows 0, 2 and 5 of six are the same, and 1 and 3.
INDEX = np.array([0, 1, 0, 1, 2, 0])


def test_equal_rows_are_stored_once(tmp_path):
    store = open_store(tmp_path, rows=6, shard_rows=2, index=INDEX)
    assert (store.stored_rows, store.num_shards) == (3, 2)
    fill(store)
    again = FeatureStore.open(tmp_path)
    np.testing.assert_array_equal(again.features(), VALUES[INDEX])
    np.testing.assert_array_equal(again.features()[[5, 3]], VALUES[[0, 1]])
    assert again.column("row").tolist() == [0, 1, 0, 1, 4, 0]
    assert again.column("tokens").tolist() == TOKENS[INDEX].tolist()
    assert again.row_numbers(0, 3).tolist() == [0, 1, 4]


def test_a_damaged_index_is_found_and_written_again(tmp_path):
    fill(open_store(tmp_path, rows=6, shard_rows=2, index=INDEX))
    path = tmp_path / "rows.npy"
    data = bytearray(path.read_bytes())
    data[-60] ^= 1
    path.write_bytes(data)
    assert FeatureStore.requires_index(tmp_path)
    with pytest.raises(ValueError, match=r"rows.npy is absent or damaged"):
        np.asarray(FeatureStore.open(tmp_path).features())
    open_store(tmp_path, rows=6, shard_rows=2, index=INDEX)
    np.testing.assert_array_equal(FeatureStore.open(tmp_path).features(), VALUES[INDEX])


@pytest.mark.parametrize("index", [None, np.array([0, 1, 0, 2, 3, 4, 5, 6, 0, 2])])
def test_statistics_are_those_of_all_rows(tmp_path, index):
    store = fill(open_store(tmp_path, shard_rows=3, index=index))
    rows = VALUES if index is None else VALUES[index]
    statistics = FeatureStore.open(tmp_path).statistics(second_moment=True)
    assert statistics.count == 10
    np.testing.assert_allclose(statistics.mean, rows.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(statistics.scale, rows.std(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(statistics.second_moment, np.cov(rows.T.astype(float), bias=True), rtol=1e-9)
    assert store.statistics().second_moment is None


def test_statistics_do_not_cancel_far_from_zero(tmp_path):
    store = open_store(tmp_path)
    far = (VALUES + 4096).astype(np.float32)
    np.testing.assert_allclose(fill(store, far).statistics().scale, far.std(0, dtype=np.float64), rtol=1e-9)


def test_a_stream_is_finished_when_its_length_is_known(tmp_path):
    store = open_store(tmp_path, rows=None)
    store.write(1, VALUES[4:7], rows_hash="b")
    with pytest.raises(ValueError, match=r"not read to the end \(1 shards are there\)"):
        FeatureStore.open(tmp_path)
    with pytest.raises(ValueError, match="number of its rows is not known yet"):
        store.features()
    store.write(0, VALUES[:4], rows_hash="a")
    assert (store.rows_hash(0), store.rows_hash(1), store.rows_hash(2)) == ("a", "b", None)
    store.finish(7)
    np.testing.assert_array_equal(FeatureStore.open(tmp_path).features(), VALUES[:7])
    assert open_store(tmp_path, rows=None).missing() == []
    with pytest.raises(ValueError, match=r"ended after 4 rows, but .* holds shard-00001.arrow"):
        open_store(tmp_path, rows=None).finish(4)
    with pytest.raises(ValueError, match="rows: 'streamed' there, 7 now"):
        open_store(tmp_path, rows=7)


def test_a_moved_model_has_the_same_identity(tmp_path):
    fingerprint = {"embedder": "tiny", "model": "a/folder", "revision": None, "weights": "3f2c"}
    store = FeatureStore(tmp_path, fingerprint, rows=2, dimension=3)
    store.write(0, np.ones((2, 3), dtype=np.float32))
    moved_fingerprint = {**fingerprint, "model": "another/folder", "revision": "main"}
    assert FeatureStore(tmp_path, moved_fingerprint, rows=2, dimension=3).missing() == []
    assert feature_directory("x", fingerprint, "00") == feature_directory("x", moved_fingerprint, "00")
    with pytest.raises(ValueError, match="weights: '3f2c' there, 'beef' now"):
        FeatureStore(tmp_path, {**fingerprint, "weights": "beef"}, rows=2, dimension=3)
    # Without a hash of weights the name is all there is to go by.
    assert feature_directory("x", {"model": "a"}, "00") != feature_directory("x", {"model": "b"}, "00")
