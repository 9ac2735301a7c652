"""The pool as the engine sees it: blocks of prepared feature rows at fixed places.

Blocks are aligned to global row numbers, whatever the source (tensor, NumPy array, memory map) and however many
processes share it: a process holds whole blocks, so every row is always computed in the same company and picks depend
on neither storage nor process count.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp import standardization as preparation
from itl_hf.gp.nystroem import FeatureMap
from itl_hf.gp.standardization import Moments, Preparation, Standardization

BLOCK_ROWS = 8192
#: A GPU spends more time starting small operations than doing them.
GPU_BLOCK_ROWS = 131072
#: Prepared float32 blocks are kept while they fit in this much memory; a larger pool is prepared anew on each pass.
CACHE_BYTES = 512 * 2**20


class Pool:
    """Rows of features, read block by block; the source is never copied whole.

    Under `torchrun` every process opens the same source and reads its own blocks of it only.

    Args:
        source:
            A tensor, NumPy array or memory map of shape (N, d), any float type.
        standardize (`Standardization`, *optional*):
            What to do to the features first; nothing when left out.

    Raises:
        `ValueError`: A row holds NaN or infinity (the row is named), or all rows are equal.
    """

    def __init__(self, source: Any, standardize: Standardization | None = None) -> None:
        self.source = source
        self.num_rows, self.raw_dimension = int(source.shape[0]), int(source.shape[1])
        self.block_rows = BLOCK_ROWS if self.device.type == "cpu" else GPU_BLOCK_ROWS
        blocks = range(-(-self.num_rows // self.block_rows))
        self._starts = [
            block * self.block_rows
            for block in blocks[share(len(blocks), distributed.rank(), distributed.world_size())]
        ]
        self._cache: dict[int, Tensor] = {}
        self.zero_rows: list[int] = []
        self.preparation = self._fit(standardize)
        self.feature_map: FeatureMap | None = None

    def _fit(self, standardize: Standardization | None) -> Preparation:
        full = standardize is not None and standardize.full
        error: ValueError | None = None
        moments: list[Moments] = []
        try:
            for start in self._starts:
                block = self._checked(start)
                if standardize is not None:
                    moments.append(Moments.of(block, full))
                if full:  # d x d numbers for every block would be too many to hold
                    moments = [functools.reduce(Moments.merge, moments)]
        except ValueError as caught:
            error = caught
        # Before the exchange: a process that failed in the middle of one would leave the others waiting.
        distributed.raise_on_all(error)
        if standardize is None:
            return Preparation.none(self.raw_dimension)
        return preparation.fit(moments, standardize, self.raw_dimension)

    @property
    def dimension(self) -> int:
        """Numbers in a row as the engine sees it."""
        return self.preparation.dimension if self.feature_map is None else self.feature_map.dimension

    @property
    def row_by_row(self) -> bool:
        """Whether a prepared row is the same to the last bit whatever rows it is prepared with."""
        return self.preparation.weights.ndim < 2 and self.feature_map is None

    def prepare(self, rows: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Raw rows as the engine sees them, (B, d) -> (B, dimension)."""
        prepared = self.preparation(rows, dtype)
        return prepared if self.feature_map is None else self.feature_map(prepared)

    def through(self, feature_map: FeatureMap) -> None:
        """From now on rows are features of a kernel (`itl_hf.gp.nystroem`)."""
        self.feature_map = feature_map
        self._cache.clear()

    def release(self) -> None:
        """Gives back the memory of prepared blocks; they are prepared again when they are needed."""
        self._cache.clear()

    @property
    def keeps(self) -> bool:
        """Whether prepared rows are kept in memory from pass to pass."""
        room = CACHE_BYTES
        if self.device.type == "cuda":
            room = torch.cuda.get_device_properties(self.device).total_memory // 4
        return sum(self._height(start) for start in self._starts) * self.dimension * 4 <= room

    @property
    def device(self) -> torch.device:
        """Where the rows are computed with: the source's device."""
        return self.source.device if isinstance(self.source, Tensor) else torch.device("cpu")

    @property
    def starts(self) -> list[int]:
        """First row numbers of this process's blocks."""
        return self._starts

    def block(self, start: int, dtype: torch.dtype) -> Tensor:
        """The prepared rows of the block that begins at row `start`, (B, dimension)."""
        if dtype == torch.float32 and start in self._cache:
            return self._cache[start]
        rows = self.prepare(self._read(slice(start, start + self.block_rows)), dtype)
        if dtype == torch.float32 and self.keeps:
            self._cache[start] = rows
        return rows

    def blocks(self, dtype: torch.dtype = torch.float64) -> Iterator[tuple[int, Tensor]]:
        """(first row number, prepared rows) of this process's blocks, in row order."""
        for start in self._starts:
            yield start, self.block(start, dtype)

    def holds(self, number: int) -> bool:
        """Whether this process reads the block of that row."""
        return bool(self._starts) and self._starts[0] <= number < self._starts[-1] + self.block_rows

    def rows(self, numbers: Sequence[int]) -> Tensor:
        """The prepared rows of these numbers, whichever process holds them, (len(numbers), dimension) float64.

        All processes must ask for the same numbers.
        """
        if distributed.world_size() == 1 and len(numbers):
            return self.prepare(self._read(list(numbers)))
        places = [place for place, number in enumerate(numbers) if self.holds(number)]
        raw = torch.zeros(len(numbers), self.raw_dimension, dtype=torch.float64, device=self.device)
        if places:
            raw[places] = self._read([numbers[place] for place in places]).double()
        return self.prepare(
            distributed.sum_over_processes(raw)
        )  # all of them on every process: in the same company as on one

    def _height(self, start: int) -> int:
        return min(self.block_rows, self.num_rows - start)

    def _read(self, index: slice | list[int]) -> Tensor:
        rows = self.source[index]
        return rows if isinstance(rows, Tensor) else torch.tensor(rows)  # a copy: memory maps are read-only

    def _checked(self, start: int) -> Tensor:
        block = self._read(slice(start, start + self.block_rows))
        # One pass shows both; only rows with a norm that is out of the ordinary are looked at number by number.
        norms = torch.linalg.vector_norm(block, dim=1, dtype=torch.promote_types(block.dtype, torch.float32))  # (B,)
        odd = (~torch.isfinite(norms)).nonzero()[:, 0]
        bad = odd[~torch.isfinite(block[odd]).all(1)]
        if len(bad):
            raise ValueError(
                f"row {start + int(bad[0])} of `pool` holds NaN or infinity; embed it again or drop it before selecting"
            )
        small = (norms == 0).nonzero()[:, 0]
        self.zero_rows += [start + int(row) for row in small[(block[small] == 0).all(1)]]
        return block


def share(count: int, rank: int, size: int) -> slice:
    """The part of `count` things that is one process's out of `size`: contiguous, and as equal as can be."""
    return slice(count * rank // size, count * (rank + 1) // size)


def spaced_rows(num_rows: int, count: int) -> list[int]:
    """At most `count` row numbers, evenly spaced from the first row to the last."""
    numbers: list[int] = torch.linspace(0, num_rows - 1, min(count, num_rows), dtype=torch.float64).long().tolist()
    return numbers
