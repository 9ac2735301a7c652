"""The first reading of a pool: which rows are unusable, the moments of the others, and the longest of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from itl_hf.gp.longest_row import LongestRow, measure_longest
from itl_hf.gp.standardization import Moments, Standardization
from itl_hf.gp.unusable_rows import UnusableRows, find_unusable, row_norms


@dataclass
class FirstPass:
    """What the first reading of a process's blocks found.

    Args:
        standardize (`Standardization`, *optional*):
            What is done to the features; moments are computed for it.
        moments (`list[Moments]`, *optional*):
            Those of the usable rows, block by block in row order.
        zero_rows (`list[int]`, *optional*):
            Rows whose features are all zero.
        bad_rows (`list[int]`, *optional*):
            Rows that hold NaN or infinity.
        longest_row (`LongestRow`, *optional*):
            The usable row farthest from the mean of its block.
    """

    standardize: Standardization | None
    moments: list[Moments] = field(default_factory=list)
    zero_rows: list[int] = field(default_factory=list)
    bad_rows: list[int] = field(default_factory=list)
    longest_row: LongestRow = field(default_factory=LongestRow)

    @property
    def unusable(self) -> UnusableRows:
        """The unusable rows."""
        return UnusableRows(tuple(self.zero_rows), tuple(self.bad_rows))

    @property
    def is_full(self) -> bool:
        """Whether moments hold (d, d) sums of products."""
        return self.standardize is not None and self.standardize.mode == "whiten"

    def read(self, starts: list[int], block_at: Callable[[int], Tensor], waits: bool) -> None:
        """Reads the blocks that begin at these rows; `waits` says whether the host waits for a number of a tensor."""
        if not waits or self.is_full:
            for start in starts:
                self.add(start, block_at(start))
            return
        # All blocks as if every row were usable, with one copy of what the host has to know of them; then those again
        # that have a row which may not be.
        moments = [self._summary(block_at(start)) for start in starts]
        numbers = torch.stack([block_numbers for _, block_numbers in moments]).tolist() if starts else []
        for start, (block_moments, _), (is_doubtful, *longest, count) in zip(starts, moments, numbers, strict=True):
            if is_doubtful:
                self.add(start, block_at(start))
            elif block_moments is not None:
                self.moments.append(block_moments)
                self.longest_row = self.longest_row.with_longest(range(start, start + int(count)), longest)

    def add(self, start: int, block: Tensor) -> None:
        """Adds a block, (B, d), that begins at row `start`."""
        unusable = find_unusable(block)
        self.zero_rows += [start + row for row in unusable.zero]
        self.bad_rows += [start + row for row in unusable.not_finite]
        if self.standardize is not None:
            mask = unusable.mask(len(block))
            usable = torch.arange(len(block)) if mask is None else (~mask).nonzero()[:, 0]
            usable_rows = block if mask is None else block[usable.to(block.device)]
            self.longest_row = self.longest_row.with_block(start + usable, usable_rows)
            self.moments.append(Moments.from_rows(usable_rows, self.is_full))
        if self.is_full:  # d x d numbers for every block would be too many to hold
            self.moments = [functools.reduce(Moments.merge, self.moments)]

    def _summary(self, block: Tensor) -> tuple[Moments | None, Tensor]:
        """Returns the moments of all rows, and in one tensor, (5,) float64, whether a row may be unusable, what
        `measure_longest` returns, and the number of rows.
        """
        norms = row_norms(block)
        is_doubtful = (~torch.isfinite(norms) | (norms == 0)).any().double()[None]
        count = norms.new_full((1,), len(block), dtype=torch.float64)
        if self.standardize is None:
            return None, torch.cat([is_doubtful, count.expand(4)])
        return Moments.from_rows(block), torch.cat([is_doubtful, measure_longest(block), count])
