"""Embedders without a model, which count their calls and can be slow or fail."""

from __future__ import annotations

import hashlib
import threading
import time

import torch

from itl_hf import Embedder
from itl_hf.embedding import Embedded


class HashEmbedder(Embedder):
    dimension = 8

    def __init__(self, seconds: float = 0.0, bad_text: str | None = None, nan_texts=(), **settings):
        self.seconds, self.bad_text, self.nan_texts, self.settings = seconds, bad_text, nan_texts, settings
        self.rows_embedded = 0
        self.rows_checked = 0
        self.fingerprints = 0

    def fingerprint(self):
        self.fingerprints += 1
        return {"embedder": "hash", **self.settings}

    def check(self, rows, first_row=0):
        self.rows_checked += len(rows)

    def embed(self, rows, *, first_row=0, on_rows=None):
        time.sleep(self.seconds)
        features = torch.stack([self._one(row["text"]) for row in rows])
        self.rows_embedded += len(rows)
        if on_rows is not None:
            on_rows(len(rows))
        return features

    def _one(self, text):
        if text == self.bad_text:
            raise ValueError("the model failed")
        if text in self.nan_texts:
            return torch.full((8,), torch.nan)
        return torch.frombuffer(bytearray(hashlib.sha256(text.encode()).digest()), dtype=torch.uint8)[:8].float()


class CountingTokens(HashEmbedder):
    """Returns columns with the features: words as `tokens`, `norm`, and NaN as `loss`."""

    def embed(self, rows, *, first_row=0, on_rows=None):
        features = super().embed(rows, first_row=first_row, on_rows=on_rows)
        tokens = torch.tensor([len(row["text"].split()) for row in rows])
        columns = {"tokens": tokens, "norm": features.norm(dim=1), "loss": torch.full((len(rows),), torch.nan)}
        return Embedded(features, columns)


class Preparing(HashEmbedder):
    """Prepares rows separately from embedding them, and records threads and order of the calls."""

    prepares_ahead = True

    def __init__(self, *args, unreadable: str | None = None, **kwargs):
        super().__init__(*args, **kwargs)
        self.unreadable = unreadable
        self.events = []
        self.threads = set()

    def prepare(self, rows, first_row=0):
        self.threads.add(threading.current_thread().name)
        for number, row in enumerate(rows, first_row):
            if row["text"] == self.unreadable:
                raise ValueError(f"row {number}: cannot be read")
        self.events.append(("prepared", first_row))
        return rows, first_row

    def embed_prepared(self, prepared_rows, *, on_rows=None):
        rows, first_row = prepared_rows
        features = self.embed(rows, on_rows=on_rows)
        self.events.append(("embedded", first_row))
        return features
