"""Base classes of objectives that follow each target: `Targeted` keeps the targets' projections on the picks,
`PerTarget` also keeps every row's covariance with every target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.growable_tensor import GrowableTensor
from itl_hf.gp.quality import Quality, weighted_mean
from itl_hf.objectives.base import Objective, ObservationBlock, ProjectionTables


class Targeted(Objective):
    """Base class of objectives with one posterior that need the targets' projections on the picks.

    Args:
        gp (`GaussianProcess`):
            Kernel, targets and noise.
        target_rows (`Tensor`, *optional*):
            (m, d) rows that are followed in place of the targets.
    """

    def __init__(self, gp: GaussianProcess, target_rows: Tensor | None = None) -> None:
        super().__init__(gp, [gp.posterior()])
        self.target_rows = gp.targets if target_rows is None else target_rows
        self.target_projections = GrowableTensor(len(self.target_rows), gp.targets)  # (number of picks, m) float64
        self.target_prior = gp.kernel.diagonal(gp.targets)  # (m,)

    def observe(self, row: Tensor, quality: Quality = 1.0) -> None:
        """Adds a pick and the targets' projections on it."""
        super().observe(row, quality)
        self.target_projections.append(self.posteriors[0].last_projection(self.target_rows, self.target_projections[:]))

    def truncate(self, num_observations: int) -> None:
        """Drops all picks after the first `num_observations`."""
        super().truncate(num_observations)
        self.target_projections.length = num_observations


class PerTarget(Targeted):
    """Base class of objectives that need each Cov[f(x), f(a)]: the statistics are s and these m covariances."""

    additive = False  # scores depend on the targets' variances too, and m statistics at many steps would be too many

    def initial_stats(self, rows: Tensor, tables: ProjectionTables) -> Tensor:
        """Variance and covariances, (1 + m, B)."""
        cross = self.gp.kernel.cross(self.gp.targets.to(rows.dtype), rows)
        return torch.cat([self.gp.kernel.diagonal(rows)[None], cross])

    def observations(self, first: int, last: int) -> ObservationBlock:
        """Adds the targets' projections p(A), (b, m)."""
        blocks = super().observations(first, last).cholesky_blocks
        return ObservationBlock(first, blocks, [self.target_projections[first:last].clone()])

    def update(self, stats: Tensor, projections: Tensor, observations: ObservationBlock, sign: float = 1.0) -> Tensor:
        """`s` falls by p(x)^2, the covariance with a by p(x) p(a)."""
        projection = projections[0]  # (b, B)
        squares = projection.square().sum(0, keepdim=True)
        return torch.sub(stats, torch.cat([squares, observations.target_terms[0].T @ projection]), alpha=sign)

    def expand_scales(self, scales: Tensor) -> Tensor:
        """A covariance is at most the product of two standard deviations."""
        return torch.cat([scales, (scales * self.target_prior.to(scales.dtype)[:, None]).sqrt()])

    def mean(self, values: Tensor) -> Tensor:
        """Computes the mean over the targets by their weights, (m, B) -> (B,)."""
        return weighted_mean(values, self.gp.target_weights)

    def target_variance(self, num_observations: int, dtype: torch.dtype) -> Tensor:
        """Var[f(a)] of each target after so many picks, (m, 1)."""
        removed_variance = self.target_projections[:num_observations].square().sum(0)
        return (self.target_prior - removed_variance).clamp_min(0).to(dtype)[:, None]
