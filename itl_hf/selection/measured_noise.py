"""Measures, in the pool, the two correlations that the rule for the noise is made of (`itl_hf.gp.noise`).

`noise_std="auto"` assumes them: unrelated rows are orthogonal, and the rows of a target's task are nearly equal to it.
`noise_std="measured"` reads them from the pool. Where a task's rows are not that near to the targets, or its rivals are
nearer than orthogonal rows, the assumed noise is too small, and the later picks leave the task.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.kernels import Kernel, correlation
from itl_hf.gp.noise import measured_noise_std
from itl_hf.gp.pool import Pool
from itl_hf.selection.baselines.ranking import NearestRows
from itl_hf.selection.defaults import NoiseMeasurement
from itl_hf.selection.shortlist.listed_rows import correlations

#: Evenly spaced rows of the pool that stand for all of it, and the share of them that are farther than a rival.
RIVAL_ROWS = 4096
RIVAL_QUANTILE = 0.95


@dataclass(frozen=True)
class PoolCorrelations:
    """Prior correlations of the targets with the pool's rows, averaged over the targets.

    Args:
        near (`float`):
            With the rows that are each target's share of the picks: its nearest `num_examples / effective rank`.
        rival (`float`):
            With the row that is nearer than `RIVAL_QUANTILE` of the pool.
        picks_per_direction (`float`):
            `num_examples / effective rank` of the targets.
    """

    near: float
    rival: float
    picks_per_direction: float

    @classmethod
    def measure(
        cls,
        pool: Pool,
        kernel: Kernel,
        targets: Tensor,
        picks_per_direction: float,
        closed_rows: Sequence[int],
        weights: Tensor | None = None,
    ) -> PoolCorrelations:
        """Measures them in one pass over the pool. Collective: all processes call it together.

        Args:
            pool (`Pool`):
                The prepared rows.
            kernel (`Kernel`):
                Covariance function of the selection.
            targets (`Tensor`):
                (m, d) prepared targets.
            picks_per_direction (`float`):
                `num_examples / effective rank` of the targets.
            closed_rows (`Sequence[int]`):
                Rows that may not be picked.
            weights (`Tensor`, *optional*):
                (m,) weights of the targets, by which correlations are averaged.
        """
        depth = max(1, min(round(picks_per_direction), pool.num_rows - len(closed_rows)))
        nearest = NearestRows(pool, correlations(kernel), targets, closed_rows)(depth)  # m lists
        near = torch.stack(
            [
                correlation(kernel, target[None], pool.rows(rows)).mean()
                for rows, target in zip(nearest, targets, strict=True)
            ]
        )
        spaced_rows = pool.rows(pool.spaced_rows(RIVAL_ROWS))
        rival = torch.quantile(correlation(kernel, targets, spaced_rows), RIVAL_QUANTILE, dim=1)  # (m,)
        return cls(_mean(near, weights), _mean(rival, weights), picks_per_direction)

    def noise_std(self) -> tuple[float, str]:
        """Returns the standard deviation of the noise, and the rule in words."""
        return measured_noise_std(self.near, self.rival, self.picks_per_direction)


def noise_measurement(
    pool: Pool, kernel: Kernel, targets: Tensor, closed_rows: Sequence[int], weights: Tensor | None
) -> NoiseMeasurement:
    """Returns a function that measures the noise in this pool, given the picks per direction."""

    def measure(picks_per_direction: float) -> tuple[float, str]:
        pool_correlations = PoolCorrelations.measure(pool, kernel, targets, picks_per_direction, closed_rows, weights)
        return pool_correlations.noise_std()

    return measure


def _mean(values: Tensor, weights: Tensor | None) -> float:
    return float(values.mean() if weights is None else (values * weights).sum() / weights.sum())
