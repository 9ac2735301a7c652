"""What one pass over a dataset's text yields; `itl_hf.embedding.row_reading` makes the pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from itl_hf.embedding.row_keys import RowKeys
from itl_hf.text.bad_rows import BadRows

TextPair = tuple[str, str]


@dataclass(frozen=True)
class RowReading:
    """What one pass over the text of a dataset's N rows yields.

    Args:
        keys (`RowKeys`):
            128 bits of each row's text columns: they identify stored features and find equal rows.
        prompt_keys (`np.ndarray`):
            (N, 2) uint64, 128 bits of each row's normalized prompt: rows with equal keys have the same prompt.
        sample (`Mapping[int, tuple[str, str]]`):
            Prompt and completion of some evenly spaced rows, by row number.
        num_tokens (`np.ndarray`, *optional*):
            (N,) int64, tokens of each row, prompt and completion together, if they were asked for.
        texts (`list[tuple[str, str]]`, *optional*):
            Prompt and completion of every row, if they were asked for.
        bad_rows (`BadRows`):
            Rows that cannot be read, if they were to be skipped; their prompts are empty and they have no tokens.
        row_numbers (`np.ndarray`, *optional*):
            (N,) numbers of the rows in a larger pool that they were drawn from.
        shared_wording (`frozenset`, *optional*):
            Runs of words that many rows of that pool have (`itl_hf.selection.screening.overlap.shared_runs`).
    """

    keys: RowKeys
    prompt_keys: np.ndarray
    sample: Mapping[int, TextPair]
    num_tokens: np.ndarray | None = None
    texts: list[TextPair] | None = None
    bad_rows: BadRows = field(default_factory=BadRows)
    row_numbers: np.ndarray | None = None
    shared_wording: frozenset[tuple[str, ...]] = frozenset()

    def row_number(self, row: int) -> int:
        """Returns the number of a row in the pool that these rows were drawn from."""
        return row if self.row_numbers is None else int(self.row_numbers[row])

    def rows_with_prompts(self, prompt_keys: np.ndarray) -> np.ndarray:
        """Row numbers of the rows whose prompt has one of these keys, (M, 2) uint64 -> (K,) int64, ascending."""
        candidates = np.flatnonzero(np.isin(self.prompt_keys[:, 0], prompt_keys[:, 0]))
        wanted_keys = set(map(tuple, prompt_keys.tolist()))
        matches = [row for row in candidates.tolist() if tuple(self.prompt_keys[row].tolist()) in wanted_keys]
        return np.asarray(matches, dtype=np.int64)

    def subset(self, rows: np.ndarray) -> RowReading:
        """Returns the reading of some of the rows, (M,) row numbers, which are numbered anew."""
        return RowReading(
            keys=RowKeys(self.keys.columns, self.keys.keys[rows]),
            prompt_keys=self.prompt_keys[rows],
            sample={place: self.sample[row] for place, row in enumerate(rows.tolist()) if row in self.sample},
            num_tokens=None if self.num_tokens is None else self.num_tokens[rows],
            texts=None if self.texts is None else [self.texts[row] for row in rows],
            row_numbers=None if self.row_numbers is None else self.row_numbers[rows],
            shared_wording=self.shared_wording,
        )
