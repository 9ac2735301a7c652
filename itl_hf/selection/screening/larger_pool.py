"""`LargerPool`: what screening must know of a pool if a selection sees some of its rows only, as in active rounds."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.embedding.row_keys import text_columns
from itl_hf.selection.screening.overlap import Run, shared_runs
from itl_hf.text import TextRows, plain_text

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.embedding.reading import RowReading


@dataclass(frozen=True)
class LargerPool:
    """The pool that rows were drawn from.

    Args:
        row_numbers (`np.ndarray`):
            (R,) numbers of the drawn rows in the pool.
        shared_wording (`frozenset`):
            Runs of words of the targets that many rows of the pool have, see `pool_wording`.
    """

    row_numbers: np.ndarray
    shared_wording: frozenset[Run]

    def complete(self, reading: RowReading) -> RowReading:
        """Returns the reading of the drawn rows with what is known of the pool."""
        return dataclasses.replace(reading, row_numbers=self.row_numbers, shared_wording=self.shared_wording)


def pool_wording(pool: Dataset | TextRows, targets: Dataset | TextRows) -> frozenset[Run]:
    """Returns the runs of words of the targets' prompts that many rows of the whole pool and targets share.

    Args:
        pool (`Dataset` or `TextRows`):
            The rows; all of them are read.
        targets (`Dataset` or `TextRows`):
            The rows of the task.
    """
    prompts = [prompt for prompt, _ in _readable_texts(targets)]
    return shared_runs(("\n".join(text) for text in _readable_texts(pool)), prompts)


def _readable_texts(rows: Dataset | TextRows) -> Iterator[tuple[str, str]]:
    for row in text_columns(rows):
        try:
            yield plain_text(row)
        except ValueError:  # rows without text, which selections leave out or refuse
            continue
