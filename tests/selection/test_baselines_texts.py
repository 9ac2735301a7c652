"""DSIR and BM25 against their formulas and the authors' package, and the texts that acquisitions are given."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest
import torch

from itl_hf import Selector, select_rows
from itl_hf.gp.pool import Pool
from itl_hf.selection.baselines import BM25, DSIR, LengthMatchedRandom
from itl_hf.selection.baselines.texts import gumbel
from itl_hf.selection.protocol import Texts
from tests.selection.baseline_cases import WORDS, problem
from tests.selection.test_selector import POOL, TARGETS, CharacterCounts


def sentences(seed, count, words=WORDS):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(words, rng.integers(1, 20))) + "!" for _ in range(count)]


ROWS, QUERIES = sentences(0, 40), sentences(1, 3, WORDS[:4])
FEATURES = problem(0, 40, num_targets=3)


def picks(acquisition, count, texts=ROWS, target_texts=QUERIES, **options):
    found = select_rows(*FEATURES, count, acquisition=acquisition, texts=(texts, target_texts), **options)
    return found.indices.tolist()


def counts_of(text, ngrams, buckets):
    words = re.findall(r"\w+|[^\w\s]+", text.lower())
    grams = [" ".join(words[i : i + n]) for n in range(1, ngrams + 1) for i in range(len(words) - n + 1)]
    counts = np.zeros(buckets)
    for gram in grams:
        counts[int(hashlib.sha256(gram.encode()).hexdigest(), 16) % buckets] += 1
    return counts


def log_weights(ngrams, buckets):
    rows, targets = (np.stack([counts_of(text, ngrams, buckets) for text in side]) for side in (ROWS, QUERIES))
    frequency = lambda counts: counts.sum(0) / counts.sum()
    return rows @ (np.log(frequency(targets) + 1e-8) - np.log(frequency(rows) + 1e-8))


@pytest.mark.parametrize("ngrams", [1, 2, 3])
@pytest.mark.parametrize("buckets", [7, 1000])
def test_dsir_is_the_ratio_of_hashed_ngram_frequencies(ngrams, buckets):
    dsir = DSIR(ngrams=ngrams, num_buckets=buckets)
    found, words = dsir.log_weights(Pool(FEATURES[0]), ROWS, QUERIES)
    np.testing.assert_allclose(found, log_weights(ngrams, buckets), rtol=1e-9)
    assert words.tolist() == [len(text.split()) + 1 for text in ROWS]  # the exclamation mark
    order = np.argsort(-log_weights(ngrams, buckets).round(9), kind="stable")
    assert picks(DSIR(ngrams=ngrams, num_buckets=buckets, top_k=True), 12) == order[:12].tolist()


def test_dsir_has_the_weights_of_the_authors_package():
    package = pytest.importorskip("data_selection.hashed_ngram_dsir")
    counts = [np.stack([package.get_ngram_counts(text, n=2, num_buckets=500) for text in s]) for s in (ROWS, QUERIES)]
    raw, wanted = (side.sum(0) / side.sum() for side in counts)
    expected = counts[0] @ (np.log(wanted + 1e-8) - np.log(raw + 1e-8))
    np.testing.assert_allclose(DSIR(num_buckets=500).log_weights(Pool(FEATURES[0]), ROWS, QUERIES)[0], expected)


def test_dsir_draws_in_proportion_to_the_weights():
    """Gumbel top-k: the first row is i with probability w_i / sum w."""
    weights = torch.tensor([1.0, 2.0, 17.0], dtype=torch.float64)
    drawn = [int((weights.log() + gumbel(seed, 3)).argmax()) for seed in range(4000)]
    np.testing.assert_allclose(np.bincount(drawn, minlength=3) / 4000, [0.05, 0.1, 0.85], atol=0.02)
    expected = np.argsort(-(log_weights(2, 1000) + gumbel(5, 40).numpy()))
    assert picks(DSIR(num_buckets=1000, seed=5), 12) == expected[:12].tolist()


def test_dsir_leaves_short_rows_to_the_end():
    long = [row for row, text in enumerate(ROWS) if len(text.split()) + 1 >= 10]
    found = picks(DSIR(min_words=10, seed=2), 40)
    assert sorted(found[: len(long)]) == long
    assert sorted(found) == list(range(40))


def bm25_scores(query, texts, k1, b):
    split = lambda text: re.findall(r"\w\w+", text.lower())
    rows = [split(text) for text in texts]
    mean = np.mean([len(row) for row in rows])
    scores = np.zeros(len(rows))
    for word in split(query):
        within = sum(word in row for row in rows)
        if within == 0:
            continue
        idf = np.log(1 + (len(rows) - within + 0.5) / (within + 0.5))
        tf = np.array([row.count(word) for row in rows])
        scores += idf * tf / (tf + k1 * (1 - b + b * np.array([len(row) for row in rows]) / mean))
    return scores


@pytest.mark.parametrize(("k1", "b"), [(1.5, 0.75), (0.9, 0.3)])
def test_bm25_takes_turns_by_its_formula(k1, b):
    scores = np.stack([bm25_scores(query, ROWS, k1, b) for query in QUERIES])
    expected = []
    for turn in range(15):
        left = scores[turn % 3].copy()
        left[expected] = -1
        expected.append(int(np.argmax(left)))
        assert np.sum(left > left.max() - 1e-5) == 1  # the library adds up in float32
    assert picks(BM25(k1=k1, b=b, stopwords=None), 15) == expected


def test_bm25_passes_the_turn_of_a_target_without_a_match():
    texts = ["red fox", "blue fox", "green tree", "tall tree"] + ["nothing"] * 36
    found = picks("bm25", 6, texts=texts, target_texts=["fox", "unheard of", "green tree"])
    assert found == [0, 2, 1, 3, 4, 5]
    assert picks("bm25", 3, target_texts=["unheard of"] * 3) == [0, 1, 2]
    assert picks("bm25", 3, texts=["the"] * 40) == [0, 1, 2]  # nothing but stop words
    assert picks("bm25", 3, texts=[""] * 40) == [0, 1, 2]


def test_completions_are_read_if_all_targets_have_one():
    pairs, single = [("ask", "answer")], [("ask", "")]
    assert Texts(pairs, pairs).both("auto") == (["ask\nanswer"], ["ask\nanswer"])
    assert Texts(pairs, pairs + single).both("auto") == (["ask"], ["ask", "ask"])
    assert Texts(pairs, single).both("whole") == (["ask\nanswer"], ["ask"])
    assert Texts(pairs, pairs).both("prompt") == (["ask"], ["ask"])


def test_lengths_of_texts_are_words():
    texts = [("one two", "three " * row) for row in range(40)]
    reference = LengthMatchedRandom(like=[39], strata=8)
    assert sorted(picks(reference, 5, texts=texts)) == list(range(35, 40))
    like_targets = LengthMatchedRandom(like="targets", strata=8)
    target_texts = [("one two", "three " * 2)] * 3
    assert sorted(picks(like_targets, 5, texts=texts, target_texts=target_texts)) == list(range(5))


@pytest.mark.parametrize("name", ["dsir", "bm25", "length_matched_random"])
def test_selector_gives_the_texts(name):
    picked = Selector(CharacterCounts(), name).select(POOL, TARGETS, 6)
    embedder = CharacterCounts()
    texts = [(row["prompt"], row["completion"]) for row in POOL], [row["prompt"] for row in TARGETS]
    rows = select_rows(embedder.embed(POOL), embedder.embed(TARGETS), 6, acquisition=name, texts=texts)
    assert picked.indices.tolist() == rows.indices.tolist()
    if name == "bm25":  # "banana" and nothing else stands in a target
        assert {POOL[row]["completion"] for row in rows.indices[:5]} == {"banana"}


def test_features_need_not_be_of_text():
    torch.manual_seed(0)
    assert len(select_rows(torch.randn(9, 3), torch.randn(2, 3), 4, acquisition="round_robin")) == 4
