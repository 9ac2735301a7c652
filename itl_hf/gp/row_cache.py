"""Prepared rows that stay in memory from pass to pass."""

from __future__ import annotations

import torch
from torch import Tensor


class RowCache:
    """Blocks of rows, by their first row numbers.

    On a device they lie in one matrix, so that blocks beside each other can be read as one: a pass over few large
    matrices starts few operations. On the CPU each block is the tensor that was stored, perhaps a part of the source.

    Args:
        rows (`range`, *optional*):
            The row numbers of all blocks; no matrix is made when left out.
    """

    def __init__(self, rows: range = range(0)) -> None:
        self.rows = rows
        self._blocks: dict[int, Tensor] = {}
        self._matrix: Tensor | None = None

    def get(self, start: int) -> Tensor | None:
        """Returns the block that begins at row `start`, (B, d); `None` if it is not stored."""
        return self._blocks.get(start)

    def put(self, start: int, block: Tensor) -> Tensor:
        """Stores a block, (B, d), and returns it as it is stored."""
        if len(self.rows) and block.device.type != "cpu":
            if self._matrix is None:
                self._matrix = block.new_empty(len(self.rows), block.shape[1])
            place = self._matrix[start - self.rows.start : start - self.rows.start + len(block)]
            block = place.copy_(block)
        self._blocks[start] = block
        return block

    def join(self, span: slice, blocks: list[Tensor]) -> Tensor:
        """Returns these rows, whose blocks are (B, d) each, as one: a part of the matrix if they are stored there."""
        if len(blocks) == 1:
            return blocks[0]
        if self._matrix is not None and span.start in self._blocks:
            return self._matrix[span.start - self.rows.start : span.stop - self.rows.start]
        return torch.cat(blocks)

    def clear(self) -> None:
        """Frees the memory."""
        self._blocks.clear()
        self._matrix = None
