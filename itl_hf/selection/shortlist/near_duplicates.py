"""Finds rows that are nearly the same as one that is on a list already."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from itl_hf.gp.growable_tensor import GrowableTensor
from itl_hf.gp.pool import Pool

#: Rows whose prepared features have a larger cosine count as one row. Lower values also skip other problems of the same
#: template: by MiniLM on the 12 target sets of `recipes/benchmarks/pools.py` without copies, 32 picks, automatic list,
#: the share of picks of the targets' tasks is .995 without skipping, .995 with this, .987 with .99 and .951 with .97.
NEAR_DUPLICATE_COSINE = 0.995


class NearDuplicates:
    """Compares rows of a pool with those that were kept, many at a time.

    Args:
        pool (`Pool`):
            The rows.
        earlier_rows (`Tensor`):
            (h, d) prepared rows that count as kept from the beginning.
        cosine (`float`, *optional*, defaults to `NEAR_DUPLICATE_COSINE`):
            Rows with a larger cosine are near-duplicates.
    """

    def __init__(self, pool: Pool, earlier_rows: Tensor, cosine: float = NEAR_DUPLICATE_COSINE) -> None:
        self.pool, self.cosine = pool, cosine
        self._kept_rows = GrowableTensor(pool.dimension, earlier_rows)
        self._kept_rows.append(_unit(earlier_rows))
        self._positions: dict[int, int] = {}

    def __contains__(self, row: int) -> bool:
        """Whether the row is loaded, so that `is_copy` can be asked."""
        return row in self._positions

    def load(self, indices: Sequence[int]) -> None:
        """Reads rows of the pool and compares them with those kept so far; rows loaded before are dropped."""
        self._rows = _unit(self.pool.rows(indices))  # (B, d)
        self._positions = {index: position for position, index in enumerate(indices)}
        similarity = self._rows @ self._kept_rows[:].T  # (B, K)
        self._is_copy = (similarity > self.cosine).any(1)

    def is_copy(self, index: int) -> bool:
        """Whether a loaded row is nearly the same as one that was kept."""
        return bool(self._is_copy[self._positions[index]])

    def keep(self, index: int) -> None:
        """Keeps a loaded row: from now on rows nearly the same as it are copies."""
        row = self._rows[self._positions[index]]
        self._is_copy |= self._rows @ row > self.cosine
        self._kept_rows.append(row[None])


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows.double())
