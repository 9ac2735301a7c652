"""A float64 matrix to which rows are appended."""

from __future__ import annotations

import torch
from torch import Tensor


class GrowableTensor:
    """A matrix that doubles its capacity when it is full, so that n appended rows copy O(n) rows, not O(n^2).

    Slices are views. They are valid until rows are dropped (by setting `length` back) and others are written in their
    place.

    Args:
        width (`int`):
            Columns to begin with.
        like (`Tensor`):
            A tensor on the device to use.
    """

    def __init__(self, width: int, like: Tensor) -> None:
        self._table = like.new_zeros((0, width), dtype=torch.float64)
        self.length = 0

    def __getitem__(self, index: slice) -> Tensor:
        return self._table[: self.length][index]

    def next(self) -> Tensor:
        """Adds a row and returns it to be written to, (width,)."""
        if self.length == len(self._table):
            self.append(self._table.new_zeros(1, self._table.shape[1]))
            self.length -= 1
        self.length += 1
        return self._table[self.length - 1]

    def append(self, rows: Tensor) -> None:
        """Appends rows, (b, width); wider rows widen the matrix."""
        new_length = self.length + len(rows)
        high, wide = self._table.shape
        if new_length > high or rows.shape[1] > wide:
            height = max(new_length, 2 * high, 16) if new_length > high else high
            width = max(rows.shape[1], 2 * wide) if rows.shape[1] > wide else wide
            larger = self._table.new_zeros(height, width)
            larger[: self.length, :wide] = self._table[: self.length]
            self._table = larger
        self._table[self.length : new_length, : rows.shape[1]] = rows
        self.length = new_length
