"""Rows of a pool that carry no information: all of their features are zero, or some are NaN or infinite.

A row of zeros is what an embedder gives where it has nothing to compute from, such as the gradient of a row without a
label. Centred, it would be the pool's mean with the opposite sign, far from every other row, and would be picked first.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf import distributed


@dataclass(frozen=True)
class UnusableRows:
    """Row numbers, ascending, the same on every process.

    Args:
        zero (`tuple[int, ...]`):
            Rows whose features are all zero.
        not_finite (`tuple[int, ...]`):
            Rows that hold NaN or infinity.
    """

    zero: tuple[int, ...] = ()
    not_finite: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.zero) + len(self.not_finite)

    @property
    def numbers(self) -> list[int]:
        """All of them, ascending."""
        return sorted(self.zero + self.not_finite)

    def summary(self) -> str:
        """Says which rows of `pool` they are, in a few words.

        Example:
            >>> UnusableRows((1,), (4, 6)).summary()
            'row 1 of `pool` is all zeros; row 4 of `pool` and 1 more hold NaN or infinity'
        """
        parts = []
        for rows, (one, several) in ((self.zero, ("is", "are")), (self.not_finite, ("holds", "hold"))):
            state = "all zeros" if rows is self.zero else "NaN or infinity"
            if rows:
                more = f" and {len(rows) - 1} more {several}" if len(rows) > 1 else f" {one}"
                parts.append(f"row {rows[0]} of `pool`{more} {state}")
        return "; ".join(parts)

    def mask(self, num_rows: int) -> Tensor | None:
        """Returns which rows of a pool they are, (N,) bool; `None` if there are none."""
        if not len(self):
            return None
        mask = torch.zeros(num_rows, dtype=torch.bool)
        mask[self.numbers] = True
        return mask

    def of_all_processes(self) -> UnusableRows:
        """Returns the rows that all processes found. Collective: all processes must call it."""
        numbers = [torch.tensor(rows, dtype=torch.int64) for rows in (self.zero, self.not_finite)]
        return UnusableRows(*(tuple(distributed.gather_rows(rows).tolist()) for rows in numbers))


def row_norms(rows: Tensor) -> Tensor:
    """Computes the norm of each row, (B, d) -> (B,), at least in 32 bits."""
    norms: Tensor = torch.linalg.vector_norm(rows, dim=1, dtype=torch.promote_types(rows.dtype, torch.float32))
    return norms


def find_unusable(rows: Tensor) -> UnusableRows:
    """Returns the unusable ones among feature rows, (B, d), by their positions.

    Example:
        >>> find_unusable(torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, float("inf")]]))
        UnusableRows(zero=(1,), not_finite=(2,))
    """
    # The norms show both in one pass; only rows whose norm is not finite or zero are checked number by number.
    norms = row_norms(rows)
    suspicious, small = (~torch.isfinite(norms)).nonzero()[:, 0], (norms == 0).nonzero()[:, 0]
    not_finite = suspicious[~torch.isfinite(rows[suspicious]).all(1)]
    return UnusableRows(tuple(small[(rows[small] == 0).all(1)].tolist()), tuple(not_finite.tolist()))
