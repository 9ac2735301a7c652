"""Estimates against what is known: a clock that the embedder moves itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset
from itl_hf.selection.costs import token_costs

from itl_hf import Embedder
from itl_hf.embedding import estimate as module
from itl_hf.embedding.embed import embed
from itl_hf.embedding.estimate import estimate


class Clocked(Embedder):
    """A word is a token; a token takes a millisecond, and the longest rows a little more."""

    dimension, batch_tokens = 16, 256

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(module.time, "perf_counter", lambda: self.now)

    def fingerprint(self):
        return {"embedder": "clocked"}

    def token_counts(self, rows):
        return [len(row["text"].split()) for row in rows]

    def embed(self, rows, *, first_row=0, on_rows=None):
        counts = self.token_counts(rows)
        self.now += sum(1e-3 * count + 1e-6 * count**2 for count in counts)
        return torch.tensor(counts, dtype=torch.float32)[:, None].expand(-1, self.dimension).clone()


def rows(count=4000):
    lengths = np.random.default_rng(0).integers(5, 60, count)
    return Dataset.from_dict({"text": [f"{number} " + "word " * (length - 1) for number, length in enumerate(lengths)]})


def test_tokens_and_time_are_those_of_the_real_run(monkeypatch):
    embedder, data = Clocked(monkeypatch), rows()
    found = estimate(data, embedder)
    tokens = sum(embedder.token_counts(data))
    before = embedder.now
    embed(data, embedder)
    assert found.rows == found.distinct_rows == found.missing_rows == 4000
    assert 0 < found.tokens_error < 0.05
    assert abs(found.tokens / tokens - 1) < found.tokens_error
    assert found.seconds == pytest.approx(embedder.now - before, rel=0.05)
    assert found.timed_rows < 400


def test_disk_is_that_of_the_store(monkeypatch, tmp_path):
    data = rows(1500)
    embedder = Clocked(monkeypatch)
    found = estimate(data, embedder, tmp_path / "store")
    embed(data, embedder, tmp_path / "store")
    real = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    assert found.disk_bytes == pytest.approx(real, rel=0.03)
    assert found.features_bytes == 1500 * 16 * 4


def test_equal_rows_and_rows_that_are_there_are_left_out(monkeypatch, tmp_path):
    data, embedder = Dataset.from_dict({"text": ["a b", "a b", "c d e"] * 3}), Clocked(monkeypatch)
    found = estimate(data, embedder, tmp_path / "store")
    assert (found.rows, found.distinct_rows, found.missing_rows, found.tokens) == (9, 2, 2, 5)
    embed(data, embedder, tmp_path / "store")
    assert estimate(data, embedder, tmp_path / "store").missing_rows == 0


def test_an_embedder_that_counts_no_tokens_is_timed_by_rows(monkeypatch):
    embedder = Clocked(monkeypatch)
    del Clocked.token_counts
    embedder.embed = lambda some, **_: setattr(embedder, "now", embedder.now + len(some)) or torch.zeros(len(some), 16)
    found = estimate(rows(300), embedder)
    assert found.tokens is None
    assert found.seconds == pytest.approx(300)


def test_costs_need_a_tokenizer(monkeypatch):
    with pytest.raises(ValueError, match="give costs"):
        token_costs(rows(2), Clocked(monkeypatch))
