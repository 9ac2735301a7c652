import datasets
import numpy as np
import pytest

from itl_hf.embedding import FeatureStore, driver, embed
from itl_hf.embedding.store.atomic_files import lock_for_writing
from tests.embedding.fakes import CountingTokens, HashEmbedder, Preparing

ROWS = 23


def texts(rows=ROWS, first=0):
    return [f"row {i}" for i in range(first, first + rows)]


def stream(lines):
    def rows():
        for line in lines:
            yield {"text": line, "n": 0}

    return datasets.IterableDataset.from_generator(rows)


def features_of(lines):
    return embed(datasets.Dataset.from_dict({"text": lines}), HashEmbedder())


@pytest.mark.parametrize("rows", [23, 25, 3])
@pytest.mark.parametrize("kind", [HashEmbedder, Preparing, CountingTokens])
def test_a_stream_gives_the_features_of_the_dataset(tmp_path, rows, kind):
    embedder = kind()
    features = embed(stream(texts(rows)), embedder, tmp_path, shard_rows=5)
    assert features.shape == (rows, 8)
    np.testing.assert_array_equal(features, features_of(texts(rows)))
    store = FeatureStore.open(tmp_path)
    assert (store.rows, store.is_stream, embedder.rows_embedded) == (rows, True, rows)
    assert store.column("row").tolist() == list(range(rows))


def test_a_continued_run_embeds_only_what_is_missing(tmp_path):
    with pytest.raises(ValueError, match="the model failed"):
        embed(stream(texts()), HashEmbedder(bad_text="row 17"), tmp_path, shard_rows=5)
    with pytest.raises(ValueError, match="was not read to the end"):
        FeatureStore.open(tmp_path)
    again = HashEmbedder()
    np.testing.assert_array_equal(embed(stream(texts()), again, tmp_path), features_of(texts()))
    assert again.rows_embedded == 8
    third = HashEmbedder()
    embed(stream(texts()), third, tmp_path)
    assert third.rows_embedded == 0


def test_a_damaged_shard_is_named_and_embedded_again(tmp_path):
    embed(stream(texts()), HashEmbedder(), tmp_path, shard_rows=5)
    path = tmp_path / "shard-00002.arrow"
    path.write_bytes(path.read_bytes()[:-1])
    again = HashEmbedder()
    with pytest.warns(UserWarning, match="shard-00002.arrow: it is truncated"):
        features = embed(stream(texts()), again, tmp_path)
    np.testing.assert_array_equal(features, features_of(texts()))
    assert again.rows_embedded == 5


@pytest.mark.parametrize("is_finished", [True, False])
def test_other_rows_raise_an_error_that_names_them(tmp_path, is_finished):
    if is_finished:
        embed(stream(texts()), HashEmbedder(), tmp_path, shard_rows=5)
    else:
        with pytest.raises(ValueError, match="the model failed"):
            embed(stream(texts()), HashEmbedder(bad_text="row 22"), tmp_path, shard_rows=5)
    changed = texts()
    changed[13] = "something else"
    embedder = HashEmbedder()
    with pytest.raises(ValueError, match=r"rows 10 to 14 of the stream are not those that .*shard-00002.arrow"):
        embed(stream(changed), embedder, tmp_path)
    assert embedder.rows_embedded == 0


def test_a_longer_and_a_shorter_stream(tmp_path):
    embed(stream(texts(20)), HashEmbedder(), tmp_path, shard_rows=5)
    embedder = HashEmbedder()
    with pytest.raises(ValueError, match="the stream has more rows than the 20"):
        embed(stream(texts(21)), embedder, tmp_path)
    with pytest.raises(ValueError, match=r"ended after 15 rows, but .* holds shard-00003.arrow"):
        embed(stream(texts(15)), embedder, tmp_path)
    with pytest.raises(ValueError, match=r"rows 15 to 18 of the stream are not those"):
        embed(stream(texts(19)), embedder, tmp_path)
    assert embedder.rows_embedded == 0


def test_duplicates_are_found_within_a_shard(tmp_path):
    lines = ["a", "b", "a", "a", "c", "a", "c", "c"]
    embedder = CountingTokens()
    features = embed(stream(lines), embedder, tmp_path, shard_rows=5)
    np.testing.assert_array_equal(features, features_of(lines))
    assert embedder.rows_embedded == 5
    assert FeatureStore.open(tmp_path).column("tokens").tolist() == [1] * 8


def test_errors_name_the_bad_row(tmp_path):
    with pytest.raises(ValueError, match=r"row 0 of the stream: no column with text: found \['label'\]"):
        embed(datasets.Dataset.from_dict({"label": [1]}).to_iterable_dataset(), HashEmbedder(), tmp_path / "no text")
    with pytest.raises(ValueError, match="row 17: cannot be read"):
        embed(stream(texts()), Preparing(unreadable="row 17"), tmp_path / "bad", shard_rows=5)


def test_a_finished_stream_is_read_without_the_lock(tmp_path, monkeypatch):
    FeatureStore(tmp_path, HashEmbedder().fingerprint(), rows=None, dimension=8)
    monkeypatch.setattr(driver, "LONGEST_WAIT_SECONDS", 0.0)
    with lock_for_writing(tmp_path), pytest.raises(BlockingIOError, match="another run is embedding"):
        embed(stream(texts()), HashEmbedder(), tmp_path)
    features = embed(stream(texts()), HashEmbedder(), tmp_path)
    with lock_for_writing(tmp_path):
        np.testing.assert_array_equal(embed(stream(texts()), HashEmbedder(), tmp_path), features)


def test_a_stream_is_not_a_dataset_of_the_same_rows(tmp_path):
    embed(stream(texts()), HashEmbedder(), tmp_path)
    with pytest.raises(ValueError, match="rows: 'streamed' there, 23 now"):
        embed(datasets.Dataset.from_dict({"text": texts()}), HashEmbedder(), tmp_path)


def test_a_stream_needs_a_directory_no_rows_hash_and_rows(tmp_path):
    with pytest.raises(TypeError, match="needs a directory"):
        embed(stream(texts()), HashEmbedder())
    with pytest.raises(TypeError, match="no rows_hash"):
        embed(stream(texts()), HashEmbedder(), tmp_path, rows_hash="x")
    with pytest.raises(ValueError, match="the stream has no rows"):
        embed(stream([]), HashEmbedder(), tmp_path)
