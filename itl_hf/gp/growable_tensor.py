"""A table of float64 rows that grows."""

from __future__ import annotations

import torch
from torch import Tensor


class GrowableTensor:
    """Rows of a table that doubles its room when it is full: n appends copy O(n) rows, not O(n^2).

    Slices are views: they hold until rows are dropped (`count` set back) and others written in their place.

    Args:
        width (`int`):
            Numbers in a row, to begin with.
        like (`Tensor`):
            Says on which device.
    """

    def __init__(self, width: int, like: Tensor) -> None:
        self._table = like.new_zeros((0, width), dtype=torch.float64)
        self.count = 0

    def __getitem__(self, index: slice) -> Tensor:
        return self._table[: self.count][index]

    def next(self) -> Tensor:
        """A further row to be written to, (width,)."""
        if self.count == len(self._table):
            self.append(self._table.new_zeros(1, self._table.shape[1]))
            self.count -= 1
        self.count += 1
        return self._table[self.count - 1]

    def append(self, rows: Tensor) -> None:
        """Adds rows, (b, width); the table grows where they are wider than it is."""
        needed = self.count + len(rows)
        high, wide = self._table.shape
        if needed > high or rows.shape[1] > wide:
            height = max(needed, 2 * high, 16) if needed > high else high
            width = max(rows.shape[1], 2 * wide) if rows.shape[1] > wide else wide
            room = self._table.new_zeros(height, width)
            room[: self.count, :wide] = self._table[: self.count]
            self._table = room
        self._table[self.count : needed, : rows.shape[1]] = rows
        self.count = needed
