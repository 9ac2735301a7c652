"""Baselines that compare words: importance resampling by n-grams (DSIR) and keyword search (BM25).

They do not use features to pick. The features serve to measure the information that the picks give about the targets,
as for every other acquisition. Texts are held in memory.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from itl_hf import distributed
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.search.greedy import GreedyPicks
from itl_hf.selection.baselines.ranking import Lists, rank_rows, turns
from itl_hf.selection.protocol import (
    Noise,
    Reads,
    SelectionRequest,
    Texts,
    TextSpan,
    check_choice,
    check_whole,
    measure_picks,
    picks_in_order,
    repeat_picks,
)

#: Words and runs of punctuation, as the authors' tokenizer splits them (NLTK's WordPunctTokenizer).
WORDS = re.compile(r"\w+|[^\w\s]+")
SMOOTHING = 1e-8
#: Number of n-grams whose bucket is cached: hashing the same words again would take most of the time.
MAX_CACHED_NGRAMS = 2**20


@dataclass(frozen=True)
class DSIR:
    """Draws rows by importance weight: how much likelier their n-grams are in the targets than in the pool.

    Source: Xie et al., "Data Selection for Language Models via Importance Resampling" (NeurIPS 2023), section 4. Words
    and n-grams of words are hashed into buckets (sha256, as in the authors' package `data-selection`); p and q are the
    buckets' frequencies in targets and pool, a row's log weight is the sum over its n-grams of log(p + 1e-8) - log(q +
    1e-8), and rows are drawn without replacement by the largest log weight + Gumbel noise. Weights are products over
    a row's n-grams, so long rows have extreme weights, as in the paper. A target of weight w counts w times. Each
    process counts its part of the pool.

    Args:
        ngrams (`int`, *optional*, defaults to 2):
            Length of the longest n-grams that are counted.
        num_buckets (`int`, *optional*, defaults to 10000):
            Number of buckets.
        min_words (`int`, *optional*, defaults to 0):
            Rows with fewer words come after all others. The default of the authors' package is 100, for web pages; most
            rows of instructions have fewer words.
        top_k (`bool`, *optional*, defaults to `False`):
            Whether to take the largest weights without noise.
        span (`"auto"`, `"prompt"` or `"whole"`, *optional*, defaults to `"auto"`):
            Whether to compare prompts alone or with completions; `"auto"`: with them if all targets have one.
        seed (`int`, *optional*, defaults to 0):
            Seed of the noise.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> texts = ["a red fox", "two plus two", "blue sky"], ["what is two plus three?"]
        >>> select_rows([[1.0], [2.0], [4.0]], [[1.0]], 1, acquisition="dsir", texts=texts).indices
        array([1])
    """

    ngrams: int = 2
    num_buckets: int = 10_000
    min_words: int = 0
    top_k: bool = False
    span: TextSpan = "auto"
    seed: int = 0
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "dsir"
    weighs_targets: ClassVar[bool] = True
    reads: ClassVar[Reads] = "texts"

    def __post_init__(self) -> None:
        for name, least in (("ngrams", 1), ("num_buckets", 1), ("min_words", 0), ("seed", 0)):
            check_whole(name, getattr(self, name), least)
        check_choice("span", self.span, TextSpan)

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks the rows with the largest log weight + noise; rows that are too short come last, in the same order."""
        texts, targets = _texts(self.name, request).both(self.span)
        keys, words = self.log_weights(pool, texts, targets, request.progress, gp.target_weights)
        if not self.top_k:
            keys = keys + gumbel(self.seed, pool.num_rows)
        order = rank_rows(keys, request.exclude)
        short = words[order] < self.min_words
        return picks_in_order(torch.cat([order[~short], order[short]]), pool, gp, request)

    def log_weights(
        self,
        pool: Pool,
        texts: list[str],
        targets: list[str],
        progress: bool = False,
        target_weights: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Returns the log importance weight and the number of words of every row, (N,), (N,)."""
        bucket_cache: dict[str, int] = {}
        mine = [row for start in pool.starts for row in range(start, min(start + pool.block_rows, pool.num_rows))]
        bar = tqdm(mine, desc=f"counting n-grams ({self.name})", unit="row", disable=not progress)
        row_buckets = [self._buckets(texts[row], bucket_cache) for row in bar]
        pool_counts = distributed.sum_over_processes(self._counts(buckets for buckets, _ in row_buckets)).double()
        target_buckets = (self._buckets(text, bucket_cache)[0] for text in targets)
        target_counts = self._counts(target_buckets, target_weights).double()
        difference = (_log_frequencies(target_counts) - _log_frequencies(pool_counts)).numpy()  # (num_buckets,)
        weights = torch.tensor([float(difference[buckets].sum()) for buckets, _ in row_buckets], dtype=torch.float64)
        words = torch.tensor([count for _, count in row_buckets], dtype=torch.int64)
        return distributed.gather_rows(weights), distributed.gather_rows(words)

    def _buckets(self, text: str, bucket_cache: dict[str, int]) -> tuple[np.ndarray, int]:
        """Returns the bucket of each n-gram of a text, and the number of words of the text."""
        words = WORDS.findall(text.lower())
        grams = [" ".join(words[i : i + size]) for size in range(1, self.ngrams + 1) for i in _starts(words, size)]
        if len(bucket_cache) > MAX_CACHED_NGRAMS:
            bucket_cache.clear()
        for gram in grams:
            if gram not in bucket_cache:
                bucket_cache[gram] = int(hashlib.sha256(gram.encode("utf-8")).hexdigest(), 16) % self.num_buckets
        return np.array([bucket_cache[gram] for gram in grams], dtype=np.int32), len(words)

    def _counts(self, rows: Iterator[np.ndarray], weights: Tensor | None = None) -> Tensor:
        """Returns how often each bucket occurs in all rows, (num_buckets,); a row of weight w counts w times."""
        counts = torch.zeros(self.num_buckets, dtype=torch.int64 if weights is None else torch.float64)
        weights_of_rows = itertools.repeat(1) if weights is None else weights.tolist()
        for buckets, weight in zip(rows, weights_of_rows, strict=False):
            counts += weight * torch.from_numpy(np.bincount(buckets, minlength=self.num_buckets))
        return counts


def gumbel(seed: int, num_rows: int) -> Tensor:
    """Returns Gumbel noise, (N,).

    The rows with the largest log w + noise are drawn with probability proportional to w.
    """
    generator = torch.Generator().manual_seed(seed)
    return -torch.rand(num_rows, dtype=torch.float64, generator=generator).clamp_min(1e-300).log().neg().log()


@dataclass(frozen=True)
class BM25:
    """Picks, for each target in turn, the row that matches its words best by BM25.

    Source: Robertson & Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond" (2009), in the form of Lucene
    and of the library `bm25s`: sum over words w of the target of idf(w) tf / (tf + k1 (1 - b + b |x| / mean |x|)), tf
    how often w is in x, idf(w) = log(1 + (N - n_w + 1/2) / (n_w + 1/2)). A target that shares no word with any
    remaining row is skipped; when all are skipped, the remaining rows follow by row number. Weights of targets share
    the turns as in `RoundRobin`. Every process builds the index of all rows.

    Args:
        k1 (`float`, *optional*, defaults to 1.5):
            Saturation: with a small value, repeated words add little.
        b (`float`, *optional*, defaults to 0.75):
            How much the score of long rows is reduced, between 0 and 1.
        stopwords (`str`, *optional*, defaults to `"en"`):
            Language whose commonest words are ignored, by the list of `bm25s`; `None` to use all words.
        span (`"auto"`, `"prompt"` or `"whole"`, *optional*, defaults to `"auto"`):
            Whether to compare prompts alone or with completions; `"auto"`: with them if all targets have one.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Raises:
        `ImportError`: If `bm25s` is not installed.

    Example:
        >>> from itl_hf import select_rows
        >>> texts = ["a red fox", "two plus two", "blue sky"], ["the sky at night"]
        >>> select_rows([[1.0], [2.0], [4.0]], [[1.0]], 1, acquisition="bm25", texts=texts).indices
        array([2])
    """

    k1: float = 1.5
    b: float = 0.75
    stopwords: str | None = "en"
    span: TextSpan = "auto"
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "bm25"
    weighs_targets: ClassVar[bool] = True
    reads: ClassVar[Reads] = "texts"

    def __post_init__(self) -> None:
        if importlib.util.find_spec("bm25s") is None:
            raise ImportError('acquisition "bm25" needs the package bm25s: pip install "itl-hf[bm25]"')
        if not 0 <= self.k1 < math.inf:
            raise ValueError(f"k1 must be 0 or positive and finite, got {self.k1!r}")
        if not 0 <= self.b <= 1:
            raise ValueError(f"b must be between 0 and 1, got {self.b!r}")
        check_choice("span", self.span, TextSpan)

    def used(self) -> dict[str, Any]:
        """Returns the version of the library, for the record."""
        return {"bm25s": version("bm25s")}

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Takes turns over lists of matching rows."""
        texts, targets = _texts(self.name, request).both(self.span)
        matches = self.matches(texts, targets, request)
        picks = turns(matches, len(targets), pool.num_rows, request, request.num_continued, gp.target_weights)
        return measure_picks(repeat_picks(picks, request), pool, gp, request)

    def matches(self, texts: list[str], targets: list[str], request: SelectionRequest) -> Lists:
        """Returns a function from a depth to the rows that match each target best and share a word with it."""
        bm25s = importlib.import_module("bm25s")
        words, queries = (
            bm25s.tokenize(side, stopwords=self.stopwords or [], return_ids=False, show_progress=request.progress)
            for side in (texts, targets)
        )
        if not any(words):  # no text has a word to index
            return lambda _: [[] for _ in targets]
        index = bm25s.BM25(k1=self.k1, b=self.b, method="lucene")
        index.index(words, show_progress=request.progress)
        open_rows = request.open_rows(len(texts)).numpy()

        def best(query: list[str], depth: int) -> list[int]:
            scores = index.get_scores(query) * open_rows if query else np.zeros(len(texts))
            matching_rows = scores.nonzero()[0]
            order: list[int] = matching_rows[np.argsort(-scores[matching_rows], kind="stable")][:depth].tolist()
            return order

        return lambda depth: [best(query, depth) for query in queries]


def _texts(name: str, request: SelectionRequest) -> Texts:
    if request.texts is None:
        raise ValueError(f"{name} reads texts: give texts=(texts of the pool, texts of the targets)")
    return request.texts


def _log_frequencies(counts: Tensor) -> Tensor:
    """Returns smoothed log frequencies."""
    return torch.log(counts / counts.sum().clamp_min(torch.finfo(counts.dtype).tiny) + SMOOTHING)


def _starts(words: list[str], size: int) -> range:
    return range(len(words) - size + 1)
