"""Finds a row that is so much longer than all others that it decides how every row is prepared.

Standardization divides by the variance of the pool. A single row far away, such as a failed embedding, can be most of
that variance; all other rows then come out closer together than they are.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf import distributed

#: A row is reported if it is this many times as long as the others (root mean square), and this share of all variance.
LEAST_RATIO, LEAST_SHARE = 20.0, 0.05
#: In smaller pools a single row is always a large share.
FEWEST_ROWS = 20


def measure_longest(block: Tensor) -> Tensor:
    """Computes the position of the row farthest from the mean of a block, (B, d), its squared distance, and the sum of
    those of all rows, (3,) float64.
    """
    dtype = torch.promote_types(block.dtype, torch.float32)
    lengths = torch.linalg.vector_norm(block.to(dtype) - block.mean(0, dtype=dtype), dim=1)  # (B,)
    squares = lengths.double().square()
    longest = squares.argmax(0, keepdim=True)  # (1,)
    return torch.cat([longest.double(), squares[longest], squares.sum()[None]])


@dataclass(frozen=True)
class LongestRow:
    """The row farthest from the mean of the rows it was read with, and the sum over all rows.

    Args:
        row (`int`):
            Its number.
        square (`float`):
            Its squared distance from the mean.
        total (`float`):
            Sum of the squared distances of all rows, this one included.
        count (`int`):
            Number of rows.
    """

    row: int = 0
    square: float = 0.0
    total: float = 0.0
    count: int = 0

    def with_block(self, numbers: Tensor, block: Tensor) -> LongestRow:
        """Returns the longest row of those so far and of raw rows, (B, d), with their row numbers, (B,)."""
        return self.with_longest(numbers, measure_longest(block).tolist()) if len(block) else self

    def with_longest(self, numbers: Tensor | range, longest: list[float]) -> LongestRow:
        """Returns the same from the rows' numbers and what `measure_longest` returned."""
        position, square, total = longest
        return self.merge(LongestRow(int(numbers[int(position)]), square, total, len(numbers)))

    def merge(self, other: LongestRow) -> LongestRow:
        """Returns the longest row of both."""
        longest = other if other.square > self.square else self
        return LongestRow(longest.row, longest.square, self.total + other.total, self.count + other.count)

    def over_processes(self, device: torch.device) -> LongestRow:
        """Returns the longest row of all processes. Collective."""
        values = torch.tensor(
            [[self.row, self.square, self.total, self.count]], dtype=torch.float64, device=device
        )  # (1, 4)
        longest = LongestRow()
        for row, square, total, count in distributed.gather_rows(values).tolist():
            longest = longest.merge(LongestRow(int(row), square, total, int(count)))
        return longest

    @property
    def ratio(self) -> float:
        """How many times as long the row is as the others, in root mean square; 1 for fewer than two rows."""
        rest = max(self.total - self.square, 0.0) / max(self.count - 1, 1)
        return (self.square / rest) ** 0.5 if rest > 0 else 1.0

    @property
    def share(self) -> float:
        """The row's share of the pool's variance."""
        return self.square / self.total if self.total > 0 else 0.0

    @property
    def is_outlier(self) -> bool:
        """Whether the row decides how the others are prepared."""
        return self.count >= FEWEST_ROWS and self.ratio >= LEAST_RATIO and self.share >= LEAST_SHARE
