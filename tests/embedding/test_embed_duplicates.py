"""Each distinct text is embedded once, and every row of the dataset still gets its features."""

import datasets
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from itl_hf.embedding import FeatureStore, HiddenStates, RowKeys, embed, row_keys
from itl_hf.embedding.row_keys import keys_of
from tests.embedding.fakes import HashEmbedder, Preparing
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

TEXTS = [f"text {i}" for i in (0, 1, 0, 2, 2, 3, 0, 4, 5, 1, 6, 6)]


def dataset(texts=TEXTS):
    return datasets.Dataset.from_dict({"text": list(texts)})


def one_by_one(texts=TEXTS):
    embedder = HashEmbedder()
    return np.concatenate([embedder.embed([{"text": text}]).numpy() for text in texts])


@pytest.mark.parametrize("shard_rows", [2, 3, 100])
@pytest.mark.parametrize("in_store", [False, True])
def test_each_text_is_embedded_once(tmp_path, shard_rows, in_store):
    embedder = HashEmbedder()
    features = embed(dataset(), embedder, tmp_path if in_store else None, shard_rows=shard_rows)
    assert embedder.rows_embedded == 7
    np.testing.assert_array_equal(features, one_by_one())
    if in_store:
        assert FeatureStore.open(tmp_path).stored_rows == 7
        assert FeatureStore.open(tmp_path).column("row").tolist() == [0, 1, 0, 3, 3, 5, 0, 7, 8, 1, 10, 10]


def test_an_interrupted_run_is_continued(tmp_path):
    with pytest.raises(ValueError, match="the model failed"):
        embed(dataset(), HashEmbedder(bad_text="text 4"), tmp_path, shard_rows=2)
    again = HashEmbedder()
    np.testing.assert_array_equal(embed(dataset(), again, tmp_path), one_by_one())
    assert again.rows_embedded == 3


@pytest.mark.parametrize("index", ["there", "gone"])
def test_a_finished_store_embeds_nothing(tmp_path, index):
    embed(dataset(), HashEmbedder(), tmp_path, shard_rows=2)
    keys = row_keys(dataset())
    if index == "gone":
        (tmp_path / "rows.npy").unlink()
    again = HashEmbedder()
    np.testing.assert_array_equal(embed(dataset(), again, tmp_path, rows_hash=keys.hash), one_by_one())
    assert again.rows_embedded == 0


def test_the_same_texts_in_another_order_are_another_dataset(tmp_path):
    embed(dataset(), HashEmbedder(), tmp_path)
    with pytest.raises(ValueError, match="rows_hash"):
        embed(dataset(reversed(TEXTS)), HashEmbedder(), tmp_path)


def test_a_row_that_cannot_be_read_keeps_its_number():
    with pytest.raises(ValueError, match="row 10: cannot be read"):
        embed(dataset(), Preparing(unreadable="text 6"), shard_rows=4)


def test_the_same_words_in_other_columns_are_other_rows():
    rows = [
        {"prompt": "a", "completion": None, "text": None},
        {"prompt": None, "completion": None, "text": "a"},
        {"prompt": "a", "completion": "", "text": None},
        {"prompt": "a", "completion": None, "text": None},
    ]
    assert row_keys(datasets.Dataset.from_list(rows)).index().tolist() == [0, 1, 2, 0]


def test_values_without_a_json_type_have_different_keys():
    first, second, third = keys_of([{"text": b"a"}, {"text": "b'a'"}, {"text": b"a"}])
    assert first.tolist() == third.tolist() != second.tolist()


def test_conversations():
    def say(text, role="user"):
        return [{"role": role, "content": text}]

    rows = [{"messages": say("a")}, {"messages": say("a", "system")}, {"messages": say("a")}]
    assert row_keys(datasets.Dataset.from_list(rows)).index().tolist() == [0, 1, 0]


@given(st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 2), max_size=60))
def test_the_index_counts_rows_as_they_first_occur(numbers):
    keys = RowKeys(["text"], np.array([[n % 3, n] for n in numbers], dtype=np.uint64).reshape(-1, 2))
    distinct = list(dict.fromkeys(numbers))
    expected = [distinct.index(number) for number in numbers]
    index = keys.index()
    assert (list(range(len(numbers))) if index is None else index.tolist()) == expected
    assert (index is None) == (len(distinct) == len(numbers))


def test_with_a_model(tmp_path):
    texts = [SENTENCES[i] for i in (0, 1, 0, 2, 1, 1)]
    embedder = HiddenStates(tiny_model(), tokenizer=tiny_tokenizer())
    features = embed(dataset(texts), embedder, tmp_path, shard_rows=2)
    np.testing.assert_allclose(features, embedder.embed([{"text": text} for text in texts]), atol=1e-5)
    np.testing.assert_array_equal(features[0], features[2])
