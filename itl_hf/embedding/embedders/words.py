"""`WordCounts`: features without a model, for selections that read none and whose report and map need some.

Source: Weinberger, Dasgupta, Langford, Smola & Attenberg (2009), "Feature Hashing for Large Scale Multitask Learning",
eq. 2 (each word adds a sign at a place, both from a hash).
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from itl_hf.embedding.embedders.base import Embedder, Fingerprint
from itl_hf.embedding.embedders.span_text import span_text

if TYPE_CHECKING:
    from torch import Tensor

    from itl_hf.text import Row

_WORD = re.compile(r"\w+")
_VERSION = 1


class WordCounts(Embedder):
    """Hashed counts of the words of a row's prompt, scaled to norm 1.

    Rows are similar if they share words. Nothing is loaded, and a second embeds tens of thousands of rows.

    Args:
        dimension (`int`, *optional*, defaults to 512):
            Numbers in a feature row.

    Raises:
        `ValueError`: If `dimension` is less than 1.

    Example:
        >>> features = WordCounts().embed([{"text": "the sum of two"}, {"text": "The sum"}, {"text": "rain"}])
        >>> features.shape, bool(features[0] @ features[1] > features[0] @ features[2])
        (torch.Size([3, 512]), True)
    """

    def __init__(self, dimension: int = 512) -> None:
        if dimension < 1:
            raise ValueError(f"dimension must be at least 1, got {dimension}")
        self._dimension = dimension

    @property
    def dimension(self) -> int:
        """Numbers in a feature row."""
        return self._dimension

    def fingerprint(self) -> Fingerprint:
        """Returns what determines the features of a row except the row."""
        return {"embedder": "word_counts", "dimension": self._dimension, "span": "prompt", "version": _VERSION}

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raises `ValueError` for rows without text."""
        for number, row in enumerate(rows, first_row):
            span_text(row, number, "prompt")

    def embed(self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None) -> Tensor:
        """Computes the features of `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with the number of rows.

        Returns:
            `Tensor`: Shape (len(rows), dimension), float32.

        Raises:
            `ValueError`: If a row has no text.
        """
        features = np.zeros((len(rows), self._dimension), dtype=np.float32)  # (B, d)
        for position, row in enumerate(rows):
            text = span_text(row, first_row + position, "prompt").casefold()
            # A text without words, such as "?!", counts as one word, so that no feature row is zero.
            for word, count in Counter(_WORD.findall(text) or [text]).items():
                number = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest())
                features[position, (number >> 1) % self._dimension] += np.sqrt(count) * (1 if number & 1 else -1)
        norms = np.linalg.norm(features, axis=1, keepdims=True)  # 0 where two words of one text cancel out
        if on_rows is not None:
            on_rows(len(rows))
        return torch.from_numpy(features / np.where(norms > 0, norms, 1))
