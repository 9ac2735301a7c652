"""Counts the tokens of rows for a `token_budget`: what a language model reads of prompt and completion, uncut.

Embedders count tokens too, but others: those of the span that they embed, cut at their `max_length`. So these counts
are kept in the store by themselves (`store/token_counts.py`), by tokenizer, and not with the features.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import numpy as np

from itl_hf import distributed
from itl_hf.embedding.embedders.tokenizer_hash import tokenizer_entries
from itl_hf.embedding.embedders.weights_hash import short_hash
from itl_hf.embedding.store.token_counts import TokenCountTable
from itl_hf.text import Row, RowTokenizer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.embedding.reading import RowReading
    from itl_hf.text.bad_rows import BadRows

#: To be raised when `RowTokenizer` makes other tokens of the same row, so that kept counts are not used any more.
_COUNTING_VERSION = 1


class TokenCounter:
    """Counts tokens with the tokenizer of an embedder.

    Args:
        embedder (`Embedder`, *optional*):
            Its tokenizer is used.
        folder (`Path`, *optional*):
            Where counts are kept from one reading to the next.

    Raises:
        `ValueError`: If the embedder has no tokenizer of a language model.
    """

    def __init__(self, embedder: Embedder | None, folder: Path | None = None) -> None:
        tokenizer = None if embedder is None else embedder.tokenizer
        if tokenizer is None:
            raise ValueError(
                "token_budget without costs counts tokens with the embedder's tokenizer, and "
                f"{type(embedder).__name__} has none of a language model: give costs, a column with each row's tokens"
            )
        self._tokenize = RowTokenizer(tokenizer)
        self._num_tokenized = 0
        self._table: TokenCountTable | None = None
        if folder is not None:
            entries = {"version": _COUNTING_VERSION, **tokenizer_entries(tokenizer)}
            self._table = TokenCountTable(folder, short_hash(json.dumps(entries, sort_keys=True))[:16])

    def count(self, batch: Sequence[Row], keys: np.ndarray, start: int, bad_rows: BadRows) -> np.ndarray:
        """Returns the number of tokens of each row; 0 for rows that cannot be read, which are added to `bad_rows`.

        Args:
            batch (`Sequence[Row]`):
                The rows.
            keys (`np.ndarray`):
                (B, 2) uint64, their keys.
            start (`int`):
                Number of the first row.
            bad_rows (`BadRows`):
                Rows that cannot be read.

        Returns:
            `np.ndarray`: (B,) int64.
        """
        counts = np.zeros(len(batch), dtype=np.int64) if self._table is None else self._table.lookup(keys)
        unknown = np.flatnonzero(counts == 0).tolist()
        if unknown:
            counts[unknown] = self._tokenized([batch[i] for i in unknown], [start + i for i in unknown], bad_rows)
        return counts

    def keep(self, reading: RowReading) -> None:
        """Keeps the counts of all rows in the folder, if there is one; the first of several processes does it."""
        has_new_rows = self._num_tokenized > 0 or distributed.world_size() > 1  # others may have tokenized some
        if self._table is not None and reading.num_tokens is not None and has_new_rows and distributed.rank() == 0:
            self._table.keep(reading.keys.keys, reading.num_tokens)

    def _tokenized(self, rows: list[Row], numbers: list[int], bad_rows: BadRows) -> list[int]:
        self._num_tokenized += len(rows)
        try:
            return [len(row.input_ids) for row in self._tokenize(rows)]
        except ValueError:  # which row it is, and its number, is found by tokenizing them one by one
            return [self._num_tokens(row, number, bad_rows) for row, number in zip(rows, numbers, strict=True)]

    def _num_tokens(self, row: Row, number: int, bad_rows: BadRows) -> int:
        try:
            return len(self._tokenize([row], number)[0].input_ids)
        except ValueError as error:
            bad_rows.add(number, error)
            return 0
