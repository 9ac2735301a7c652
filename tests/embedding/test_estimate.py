"""Estimates are compared with the real run; the embedder sets the clock itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from datasets import Dataset

from itl_hf import Embedder
from itl_hf.embedding import estimate as module
from itl_hf.embedding.embed import embed
from itl_hf.embedding.estimate import estimate
from itl_hf.embedding.row_reading import read_dataset


class Clocked(Embedder):
    """Counts a word as a token; a token takes a millisecond, and a little more in longer rows."""

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


def test_tokens_and_time_match_the_real_run(monkeypatch):
    embedder, data = Clocked(monkeypatch), rows()
    result = estimate(data, embedder)
    tokens = sum(embedder.token_counts(data))
    before = embedder.now
    embed(data, embedder)
    assert result.rows == result.distinct_rows == result.missing_rows == 4000
    assert 0 < result.tokens_error < 0.05
    assert abs(result.tokens / tokens - 1) < result.tokens_error
    assert result.seconds == pytest.approx(embedder.now - before, rel=0.05)
    assert result.timed_rows < 400


def test_disk_matches_the_store(monkeypatch, tmp_path):
    data = rows(1500)
    embedder = Clocked(monkeypatch)
    result = estimate(data, embedder, tmp_path / "store")
    embed(data, embedder, tmp_path / "store")
    real = sum(path.stat().st_size for path in (tmp_path / "store").iterdir())
    assert result.disk_bytes == pytest.approx(real, rel=0.03)
    assert result.features_bytes == 1500 * 16 * 4


def test_equal_rows_and_stored_rows_are_not_counted(monkeypatch, tmp_path):
    data, embedder = Dataset.from_dict({"text": ["a b", "a b", "c d e"] * 3}), Clocked(monkeypatch)
    result = estimate(data, embedder, tmp_path / "store")
    assert (result.rows, result.distinct_rows, result.missing_rows, result.tokens) == (9, 2, 2, 5)
    embed(data, embedder, tmp_path / "store")
    assert estimate(data, embedder, tmp_path / "store").missing_rows == 0


def test_an_embedder_that_counts_no_tokens_is_timed_by_rows(monkeypatch):
    embedder = Clocked(monkeypatch)
    monkeypatch.setattr(embedder, "token_counts", lambda rows: None)
    embedder.embed = lambda some, **_: setattr(embedder, "now", embedder.now + len(some)) or torch.zeros(len(some), 16)
    result = estimate(rows(300), embedder)
    assert result.tokens is None
    assert result.seconds == pytest.approx(300)


def test_costs_need_a_tokenizer(monkeypatch):
    with pytest.raises(ValueError, match="give costs"):
        read_dataset(rows(2), Clocked(monkeypatch), count_tokens=True)
