"""The map of a selection: pool, targets and picks on the pool's first two principal components."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool, spaced_rows
from itl_hf.selection.result.principal_axes import principal_axes
from itl_hf.selection.result.selection import Layout

#: Number of rows that the axes are fitted on, and of rows that the map shows.
SAMPLE_ROWS = 20_000
SHOWN_ROWS = 200_000
CHUNK_ROWS = 8_192


def principal_layout(pool: Pool, targets: Tensor, picks: list[int]) -> Layout:
    """Projects an evenly spaced sample of the pool, the targets and the picks onto two axes.

    Args:
        pool (`Pool`):
            Prepared pool rows.
        targets (`Tensor`):
            (m, d) prepared target rows.
        picks (`list[int]`):
            Picked row numbers.
    """
    pool_map = pool.once("principal map", lambda: _PoolMap.fit(pool))
    return Layout(
        pool_map.positions.copy(),
        pool_map.row_numbers.copy(),
        pool_map.project(targets),
        pool_map.project(pool.rows(picks)),
        pool_map.variance_shares.numpy().astype(np.float32),
    )


@dataclass(frozen=True)
class _PoolMap:
    """The part of the map that depends on the pool alone: its axes, and the positions of its rows."""

    centre: Tensor
    axes: Tensor
    variance_shares: Tensor
    row_numbers: np.ndarray
    positions: np.ndarray

    @classmethod
    def fit(cls, pool: Pool) -> _PoolMap:
        """Fits the axes on an evenly spaced sample, and projects the rows that the map shows."""
        centre, axes, variance_shares = principal_axes(pool, spaced_rows(pool.num_rows, SAMPLE_ROWS))
        numbers = list(spaced_rows(pool.num_rows, SHOWN_ROWS))
        axes_only = cls(centre, axes, variance_shares, np.asarray(numbers, dtype=np.int64), np.zeros((0, 2)))
        chunks = [numbers[first : first + CHUNK_ROWS] for first in range(0, len(numbers), CHUNK_ROWS)]
        positions = np.concatenate([axes_only._project_shared(pool, chunk) for chunk in chunks])
        return replace(axes_only, positions=positions)

    def _project_shared(self, pool: Pool, numbers: list[int]) -> np.ndarray:
        """Returns the positions of rows of the pool, (B, 2): each process projects its own, and sends two numbers each.

        Collective: all processes must ask for the same rows.
        """
        if distributed.world_size() == 1:
            return self.project(pool.own_rows(numbers))
        places = pool.own_positions(numbers)
        positions = torch.zeros(len(numbers), 2)
        if places:
            own_rows = pool.own_rows([numbers[place] for place in places])
            positions[places] = torch.from_numpy(self.project(own_rows))
        return distributed.sum_over_processes(positions).numpy()

    def project(self, rows: Tensor) -> np.ndarray:
        """Returns the positions of prepared rows, (B, d) -> (B, 2)."""
        return ((rows.cpu() - self.centre) @ self.axes).numpy().astype(np.float32)
