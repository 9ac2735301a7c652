"""What each row of a pool costs to train on, in tokens, where nobody said what it costs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from itl_hf.embedding.row_keys import read_rows, text_columns
from itl_hf.text import RowTokenizer

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.embedding.embedders.base import Embedder

_READ_ROWS = 1_024


def token_costs(pool: Dataset, embedder: Embedder) -> np.ndarray:
    """Tokens of each row, prompt and completion, uncut, by the embedder's own tokenizer, (N,) int64.

    Raises:
        `ValueError`: The embedder has no tokenizer of a language model.
    """
    tokenizer = embedder.tokenizer
    if tokenizer is None:
        raise ValueError(
            f"token_budget without costs counts tokens with the embedder's tokenizer, and {type(embedder).__name__} "
            "has none of a language model: give costs, a column with each row's tokens"
        )
    rows, reader = text_columns(pool), RowTokenizer(tokenizer)
    starts = range(0, len(rows), _READ_ROWS)
    blocks = (read_rows(rows, range(start, min(start + _READ_ROWS, len(rows)))) for start in starts)
    counts = [[len(row.input_ids) for row in reader(block, start)] for start, block in zip(starts, blocks, strict=True)]
    return np.concatenate([np.asarray(part, dtype=np.int64) for part in counts])
