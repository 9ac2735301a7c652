"""A budget of tokens: rows are tokenized once for all selections with one tokenizer, and picked as without a store."""

import copy

import numpy as np
import pytest
from datasets import Dataset

from itl_hf import SelectionConstraints, Selector
from itl_hf.embedding.store.cache import FeatureCache
from itl_hf.text.tokens import RowTokenizer
from tests.embedding.fakes import HashEmbedder
from tests.tiny_models import SENTENCES, tiny_tokenizer

TEXTS = [f"{text} {'and so on ' * (n % 7)}{n}" for n in range(8) for text in SENTENCES]
TARGETS = ["The capital of France", "two red"]
CONSTRAINTS = SelectionConstraints(token_budget=60)


class WithTokenizer(HashEmbedder):
    """Embeds by hashes and has a tokenizer, as a language model has."""

    default_cache = True

    def __init__(self, tokenizer=None, **settings):
        super().__init__(**settings)
        self.tokenizer = tokenizer or tiny_tokenizer()


@pytest.fixture
def tokenized(monkeypatch):
    """The texts that were tokenized."""
    texts, plain_call = [], RowTokenizer.__call__

    def call(self, rows, first_row=0):
        texts.extend(row["text"] for row in rows)
        return plain_call(self, rows, first_row)

    monkeypatch.setattr(RowTokenizer, "__call__", call)
    return texts


def select(texts=TEXTS, store=None, embedder=None, **options):
    selector = Selector(embedder or WithTokenizer(), store=store, **options)
    return selector.select(Dataset.from_dict({"text": texts}), TARGETS, 30, constraints=CONSTRAINTS)


@pytest.fixture(scope="module")
def without_store():
    return select(store=False)


@pytest.mark.parametrize("is_cache", [False, True])
def test_a_second_selection_tokenizes_nothing_and_picks_the_same(tmp_path, tokenized, without_store, is_cache):
    store = None if is_cache else tmp_path / "store"
    tokenized.clear()
    first = select(store=store)
    assert tokenized == TEXTS
    tokenized.clear()
    second = select(store=store)
    assert not tokenized
    assert 1 < len(without_store.indices) < 30
    for selection in (first, second):
        np.testing.assert_array_equal(selection.indices, without_store.indices)
        np.testing.assert_array_equal(selection.gains, without_store.gains)
        assert selection.record.constraints == without_store.record.constraints


def test_only_rows_that_changed_are_counted_again(tmp_path, tokenized):
    select(store=tmp_path)
    tokenized.clear()
    texts = ["a row of its own", *TEXTS[1:], "another one"]
    changed = select(texts, tmp_path)
    assert tokenized == [texts[0], texts[-1]]
    np.testing.assert_array_equal(changed.indices, select(texts, False).indices)


def test_another_tokenizer_or_template_counts_again(tmp_path, tokenized):
    select(store=tmp_path)
    for change in (
        lambda tokenizer: tokenizer.add_tokens(["capital", "France"]),
        lambda tokenizer: setattr(tokenizer, "chat_template", "{{ messages[0]['content'] }}"),
    ):
        tokenizer = copy.deepcopy(tiny_tokenizer())
        change(tokenizer)
        tokenized.clear()
        select(store=tmp_path, embedder=WithTokenizer(tokenizer))
        assert tokenized == TEXTS


def test_features_of_another_embedder_with_the_same_tokenizer_need_no_new_counts(tmp_path, tokenized):
    select(store=tmp_path)
    tokenized.clear()
    select(store=tmp_path, embedder=WithTokenizer(layer=3))
    assert not tokenized


def test_a_store_of_an_earlier_version_has_no_counts_and_works(tmp_path, tokenized, without_store):
    Selector(WithTokenizer(), store=tmp_path).select(TEXTS, TARGETS, 5)
    assert not (tmp_path / "token_counts").exists()
    tokenized.clear()
    np.testing.assert_array_equal(select(store=tmp_path).indices, without_store.indices)
    assert tokenized == TEXTS


def test_a_damaged_file_of_counts_is_named_and_made_again(tmp_path, tokenized, without_store):
    select(store=tmp_path)
    (path,) = (tmp_path / "token_counts").glob("*.npy")
    content = bytearray(path.read_bytes())
    content[200] ^= 1
    path.write_bytes(content)
    tokenized.clear()
    with pytest.warns(UserWarning, match="is damaged: its checksum differs"):
        selection = select(store=tmp_path)
    np.testing.assert_array_equal(selection.indices, without_store.indices)
    assert tokenized == TEXTS
    assert path.read_bytes() != bytes(content)


def test_rows_that_cannot_be_read_are_refused_each_time(tmp_path):
    texts = [*TEXTS, ""]
    for _ in range(2):
        with pytest.raises(ValueError, match=f"row {len(TEXTS)}: column 'text' is empty"):
            select(texts, tmp_path)
    with pytest.warns(UserWarning, match="left out"):
        selection = select(texts, tmp_path, on_bad_rows="skip")
    assert len(TEXTS) not in selection.indices


def test_the_cache_lists_and_deletes_the_counts():
    select()
    cache = FeatureCache()
    (entry,) = [one for one in cache.entries() if one.model == "token counts"]
    assert (entry.rows, entry.is_finished) == (len(TEXTS), True)
    assert entry.directory.stat().st_mode & 0o777 == 0o700
    cache.clear()
    assert not cache.entries()


def test_an_embedder_that_the_cache_refuses_leaves_no_counts():
    embedder = WithTokenizer()
    embedder.default_cache = False
    select(embedder=embedder)
    assert not (FeatureCache().folder / "token_counts").exists()
