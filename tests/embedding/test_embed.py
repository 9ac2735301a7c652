import errno
import threading
from concurrent.futures import ThreadPoolExecutor

import datasets
import numpy as np
import pytest
import torch

from itl_hf.embedding import FeatureStore, HiddenStates, driver, embed, row_keys, rows_fingerprint
from itl_hf.embedding.store.atomic_files import lock_for_writing
from itl_hf.embedding.store.shards import write_shard
from tests.embedding.fakes import CountingTokens, HashEmbedder
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

ROWS = 40


def texts(rows=ROWS, **columns):
    return datasets.Dataset.from_dict({"text": [f"row {i}" for i in range(rows)], **columns})


def test_rows_in_order_with_and_without_a_directory(tmp_path):
    dataset = texts(23)
    memory = embed(dataset, HashEmbedder(), shard_rows=5)
    stored = embed(dataset, HashEmbedder(), tmp_path, shard_rows=7)
    assert memory.shape == (23, 8)
    assert memory.dtype == stored.dtype == np.float32
    np.testing.assert_array_equal(memory, stored)
    np.testing.assert_array_equal(memory[11:12], embed(dataset.select([11]), HashEmbedder()))


def test_a_second_run_embeds_nothing(tmp_path):
    first, second = HashEmbedder(), HashEmbedder()
    features = embed(texts(), first, tmp_path, shard_rows=16)
    np.testing.assert_array_equal(embed(texts(), second, tmp_path, shard_rows=9), features)
    assert (first.rows_embedded, second.rows_embedded) == (ROWS, 0)


def test_a_second_run_makes_no_forward_pass(tmp_path, monkeypatch):
    dataset = datasets.Dataset.from_dict({"text": SENTENCES})
    features = embed(dataset, HiddenStates(tiny_model(), tokenizer=tiny_tokenizer()), tmp_path)
    again = HiddenStates(tiny_model(), tokenizer=tiny_tokenizer())

    def forbidden(*_args, **_kwargs):
        raise AssertionError("the model ran")

    monkeypatch.setattr(type(again.backbone.model), "forward", forbidden)
    np.testing.assert_array_equal(embed(dataset, again, tmp_path), features)
    with pytest.raises(AssertionError, match="the model ran"):
        embed(dataset, again)


def test_an_exception_keeps_finished_shards(tmp_path):
    with pytest.raises(ValueError, match="the model failed"):
        embed(texts(), HashEmbedder(bad_text="row 25"), tmp_path, shard_rows=10)
    again = HashEmbedder()
    embed(texts(), again, tmp_path, shard_rows=10)
    assert again.rows_embedded == 20


def test_a_damaged_shard_alone_is_computed_again(tmp_path):
    features = embed(texts(), HashEmbedder(), tmp_path, shard_rows=10)
    path = tmp_path / "shard-00002.arrow"
    path.write_bytes(path.read_bytes()[:-9])
    again, before = HashEmbedder(), np.asarray(features.store.shard(0)).copy()
    with pytest.warns(UserWarning, match=r"computed again:\n  .*shard-00002.arrow: it is truncated"):
        features = embed(texts(), again, tmp_path)
    np.testing.assert_array_equal(features, embed(texts(), HashEmbedder()))
    np.testing.assert_array_equal(features[:10], before)
    assert again.rows_embedded == 10


def test_other_rows_or_settings_are_refused(tmp_path):
    embed(texts(), HashEmbedder(layer=1), tmp_path)
    with pytest.raises(ValueError, match="layer: 1 there, 2 now"):
        embed(texts(), HashEmbedder(layer=2), tmp_path)
    with pytest.raises(ValueError, match="rows_hash"):
        embed(texts().select(range(ROWS - 1, -1, -1)), HashEmbedder(layer=1), tmp_path)
    embed(texts(topic=["unused"] * ROWS), HashEmbedder(layer=1), tmp_path)  # a column without text is no difference


def test_a_format_of_the_dataset_does_not_matter(tmp_path):
    embed(texts(), HashEmbedder(), tmp_path)
    again = HashEmbedder()
    embed(texts(n=list(range(ROWS))).with_format("torch", columns=["n"]), again, tmp_path)
    assert again.rows_embedded == 0


def test_a_bad_row_fails_before_the_model_runs(monkeypatch):
    embedder = HiddenStates(tiny_model(), tokenizer=tiny_tokenizer())
    monkeypatch.setattr(embedder, "embed", lambda *_args, **_kwargs: pytest.fail("the model ran"))
    rows = [{"prompt": "fine"} for _ in range(1200)]
    rows[1100] = {"prompt": ""}
    with pytest.raises(ValueError, match="row 1100: column 'prompt' is empty"):
        embed(datasets.Dataset.from_list(rows), embedder)


def test_no_text_column():
    with pytest.raises(ValueError, match=r"no format is known for the columns of the pool: label"):
        embed(datasets.Dataset.from_dict({"label": [1]}), HashEmbedder())


def test_truncation_is_reported_once_for_all_shards():
    dataset = datasets.Dataset.from_dict({"text": ["a", *SENTENCES]})
    embedder = HiddenStates(tiny_model(), tokenizer=tiny_tokenizer(), max_length=5)
    with pytest.warns(
        UserWarning, match=r"6 row\(s\) are longer than max_length=5 .* first is row 1\)"
    ) as warning_list:
        embed(dataset, embedder, shard_rows=4)
    assert len(warning_list) == 1


def test_half_precision_overflow_names_the_row():
    model = tiny_model()
    model.model.layers[0].mlp.down_proj.weight.data.mul_(1e6)
    embedder = HiddenStates(model.to(torch.float16), tokenizer=tiny_tokenizer(), layer=1)
    with pytest.raises(ValueError, match=r"row 0: its features are not finite .* dtype='float32'"):
        embed(datasets.Dataset.from_dict({"text": SENTENCES}), embedder)


def test_bad_shard_rows():
    with pytest.raises(ValueError, match="shard_rows"):
        embed(texts(), HashEmbedder(), shard_rows=0)


def test_the_fingerprint_is_computed_once(tmp_path):
    embedder = HashEmbedder()
    embed(texts(), embedder, tmp_path)
    assert embedder.fingerprints == 1
    fingerprint = {"embedder": "hash"}
    embed(texts(), embedder, tmp_path, fingerprint=fingerprint)
    assert embedder.fingerprints == 1
    with pytest.raises(ValueError, match="layer: '\\(none\\)' there, 3 now"):
        embed(texts(), embedder, tmp_path, fingerprint={**fingerprint, "layer": 3})


def test_rows_that_were_read_are_not_read_again(tmp_path, monkeypatch):
    dataset, embedder = texts(), HashEmbedder()
    keys = row_keys(dataset, embedder)
    assert embedder.rows_checked == ROWS
    with monkeypatch.context() as patch:
        patch.setattr("itl_hf.embedding.driver.read_keys", lambda *_: pytest.fail("the rows were read again"))
        first = embed(dataset, embedder, tmp_path, rows_hash=keys)
        np.testing.assert_array_equal(embed(dataset, embedder, rows_hash=keys), first)
        np.testing.assert_array_equal(embed(dataset, embedder, tmp_path, rows_hash=keys.hash), first)
    np.testing.assert_array_equal(embed(dataset, embedder, tmp_path / "new", rows_hash=keys.hash), first)
    assert embedder.rows_checked == ROWS
    assert keys.hash == rows_fingerprint(dataset)


@pytest.mark.parametrize("directory", [None, "store"])
def test_the_hash_of_other_rows_is_refused(tmp_path, directory):
    keys = row_keys(texts(5))
    with pytest.raises(ValueError, match="rows_hash is that of other rows"):
        embed(texts(), HashEmbedder(), directory and tmp_path / directory, rows_hash=keys.hash)


@pytest.mark.parametrize("ask", ["argument", "embedder"])
def test_half_precision_storage(tmp_path, ask):
    embedder = HashEmbedder()
    if ask == "embedder":
        embedder.storage_dtype = "float16"
    dtype = "float16" if ask == "argument" else None
    stored = embed(texts(), embedder, tmp_path, shard_rows=16, dtype=dtype)
    assert stored.dtype == np.float16
    memory = embed(texts(), embedder, dtype=dtype)
    assert memory.dtype == np.float16
    np.testing.assert_array_equal(stored, memory)
    np.testing.assert_array_equal(memory, embed(texts(), HashEmbedder()).astype(np.float16))


def test_features_beyond_half_precision_name_the_row():
    class Large(HashEmbedder):
        def _one(self, text):
            return super()._one(text) * (1e5 if text == "row 7" else 1)

    with pytest.raises(ValueError, match=r"row 7: its features reach .*, which float16 cannot store"):
        embed(texts(), Large(), dtype="float16")


def test_columns_of_the_embedder_are_stored(tmp_path):
    features = embed(datasets.Dataset.from_dict({"text": ["a b c", "d", "a b c", "e f"]}), CountingTokens(), tmp_path)
    store = FeatureStore.open(tmp_path)
    assert store.column("tokens").tolist() == [3, 1, 3, 2]
    np.testing.assert_allclose(store.column("norm"), np.linalg.norm(features, axis=1), rtol=1e-6)
    assert np.isnan(store.column("loss")).all()


def test_features_of_a_wrong_shape_are_refused():
    class Wide(HashEmbedder):
        dimension = 9

    with pytest.raises(ValueError, match=r"features of shape \(40, 8\) for 40 rows of dimension 9"):
        embed(texts(), Wide())


def test_no_rows(tmp_path):
    for directory in (None, tmp_path):
        features = embed(texts(0), HashEmbedder(), directory)
        assert features.shape == (0, 8)
        assert np.asarray(features).shape == (0, 8)


def test_other_types_of_datasets_and_dtypes_are_refused():
    with pytest.raises(TypeError, match=r"must be a datasets.Dataset or IterableDataset, got list"):
        embed(["a"], HashEmbedder())
    with pytest.raises(ValueError, match="dtype must be one of"):
        embed(texts(), HashEmbedder(), dtype="int8")


def test_a_second_run_waits_and_embeds_nothing_twice(tmp_path):
    """Two first embeddings of one store; the locks are those of two processes, as each thread opens the folder."""
    embedders = [HashEmbedder(seconds=0.05) for _ in range(2)]
    barrier = threading.Barrier(2)

    def run(embedder):
        barrier.wait()
        return np.array(embed(texts(), embedder, tmp_path, shard_rows=5))

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(run, embedders)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, embed(texts(), HashEmbedder()))
    assert sorted(embedder.rows_embedded for embedder in embedders) == [0, ROWS]


@pytest.mark.parametrize("trial", range(5))
def test_two_runs_can_make_one_store_at_once(tmp_path, trial):
    barrier = threading.Barrier(6)

    def make(_):
        barrier.wait()
        index = np.array([0, 1, 0, 2])
        return FeatureStore(tmp_path / "new", {"model": "tiny"}, rows=4, dimension=2, index=index).missing()

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(make, range(6))) == [[0]] * 6
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_run_that_cannot_wait_is_refused(tmp_path, monkeypatch):
    embed(texts(), HashEmbedder(), tmp_path)
    (tmp_path / "shard-00000.arrow").unlink()
    monkeypatch.setattr(driver, "LONGEST_WAIT_SECONDS", 0.0)
    with lock_for_writing(tmp_path), pytest.raises(BlockingIOError, match="another run is embedding"):
        embed(texts(), HashEmbedder(), tmp_path)
    features = embed(texts(), HashEmbedder(), tmp_path)
    with lock_for_writing(tmp_path):  # there is nothing left to write
        np.testing.assert_array_equal(embed(texts(), HashEmbedder(), tmp_path), features)


def test_temporary_files_of_killed_runs_are_deleted(tmp_path):
    embed(texts(), HashEmbedder(), tmp_path, shard_rows=10)
    for name in ("shard-00001.arrow.host.1.tmp", "manifest.json.host.2.tmp"):
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "shard-00001.arrow").unlink()
    embed(texts(), HashEmbedder(), tmp_path)
    assert not list(tmp_path.glob("*.tmp"))


def test_embedding_continues_after_a_full_disk(tmp_path, monkeypatch):
    written_files = []

    def until_full(path, shard):
        if len(written_files) == 2:
            raise OSError(errno.ENOSPC, "no room left on the disk", str(path))
        written_files.append(path)
        write_shard(path, shard)

    with monkeypatch.context() as patch:
        patch.setattr("itl_hf.embedding.store.feature_store.write_shard", until_full)
        with pytest.raises(OSError, match="no room left"):
            embed(texts(), HashEmbedder(), tmp_path, shard_rows=10)
    again = HashEmbedder()
    np.testing.assert_array_equal(embed(texts(), again, tmp_path), embed(texts(), HashEmbedder()))
    assert again.rows_embedded == 20
