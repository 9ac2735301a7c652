"""The pool as the engine sees it: blocks of prepared feature rows at fixed places.

Blocks are aligned to row numbers, whatever the source (tensor, NumPy array, memory map) and however many processes
share it, so every row is always computed in the same company and picks do not depend on how the pool is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from itl_hf.gp.kernels import Standardization

BLOCK_ROWS = 8192


class Pool:
    """Rows of features, read block by block; the source is never copied whole.

    Args:
        source: a tensor, NumPy array or memory map of shape (N, d), any float type.
        standardize (`bool`, *optional*, defaults to `True`): centre and scale to mean k(x, x) = 1.

    Raises:
        `ValueError`: a row holds NaN or infinity (the row is named), or all rows are equal.
    """

    def __init__(self, source: Any, standardize: bool = True) -> None:
        self.source = source
        self.num_rows, self.dimension = int(source.shape[0]), int(source.shape[1])
        self.zero_rows: list[int] = []
        raw = (self._checked(start, block) for start, block in self._raw_blocks())
        if standardize:
            self.standardization = Standardization.fit(raw)
        else:
            self.standardization = Standardization.identity(self.dimension)
            for _ in raw:  # the checks are wanted all the same
                pass

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """(first row number, prepared rows (B, d) float64), in row order."""
        for start, block in self._raw_blocks():
            yield start, self.standardization(block)

    def rows(self, numbers: list[int]) -> Tensor:
        """The prepared rows of these numbers, (len(numbers), d) float64."""
        return self.standardization(self._read(numbers))

    def _raw_blocks(self) -> Iterator[tuple[int, Tensor]]:
        for start in range(0, self.num_rows, BLOCK_ROWS):
            yield start, self._read(slice(start, start + BLOCK_ROWS))

    def _read(self, index: slice | list[int]) -> Tensor:
        rows = self.source[index]
        return (
            rows if isinstance(rows, Tensor) else torch.tensor(rows)
        )  # a copy: memory maps are read-only, tensors are not

    def _checked(self, start: int, block: Tensor) -> Tensor:
        finite = torch.isfinite(block).all(1)
        if not finite.all():
            bad = start + int((~finite).nonzero()[0])
            raise ValueError(f"row {bad} of `pool` holds NaN or infinity; embed it again or drop it before selecting")
        self.zero_rows += [start + int(row) for row in (block == 0).all(1).nonzero()]
        return block
