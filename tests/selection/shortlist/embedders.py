"""An embedder without a model that counts the rows that it embeds."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from itl_hf import Embedder
from itl_hf.text import plain_text


class CountingEmbedder(Embedder):
    """Features are sums of random vectors of a text's words, so that texts with common words are near.

    Args:
        dimension (`int`):
            Numbers in a feature row.
        weight (`float`, *optional*, defaults to 1.0):
            Weight of the words' own vectors against those of their first letters.
    """

    dimension = 0

    def __init__(self, dimension, weight=1.0):
        self.dimension, self.weight = dimension, weight
        self.prompts = []
        self.checked_rows = 0

    def fingerprint(self):
        return {"embedder": "words", "dimension": self.dimension, "weight": self.weight}

    def check(self, rows, first_row=0):
        self.checked_rows += len(rows)
        for number, row in enumerate(rows):
            if f"refused by {self.dimension}" in plain_text(row)[0]:
                raise ValueError(f"row {first_row + number} is refused")

    def embed(self, rows, *, first_row=0, on_rows=None):
        prompts = [plain_text(row)[0] for row in rows]
        self.prompts += prompts
        if on_rows is not None:
            on_rows(len(rows))
        return torch.tensor(np.stack([self._features(prompt) for prompt in prompts]), dtype=torch.float32)

    def _features(self, text):
        words = text.lower().split()
        return sum(self._vector(word) * self.weight + self._vector(word[:1]) for word in words) / len(words)

    def _vector(self, word):
        seed = int.from_bytes(hashlib.blake2b(f"{self.dimension} {word}".encode(), digest_size=4).digest(), "little")
        return np.random.default_rng(seed).normal(size=self.dimension)
