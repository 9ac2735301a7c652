"""Shared by objectives that follow each target."""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.growable_tensor import GrowableTensor
from itl_hf.objectives.base import Memory, Objective, Picks


class Targeted(Objective):
    """Objectives that follow each target: what the picks say to the targets is kept beside what they say to the
    rows.
    """

    def __init__(self, gp: GaussianProcess) -> None:
        super().__init__(gp, [gp.posterior()])
        self._seen = GrowableTensor(len(gp.targets), gp.targets)
        self.prior = gp.kernel.diagonal(gp.targets)  # (m,)

    @property
    def target_projections(self) -> Tensor:
        """What the picks say to the targets, (count, m) float64."""
        return self._seen[:]

    def observe(self, row: Tensor) -> None:
        """Picks a row and notes what it says to the targets."""
        known = self.target_projections
        super().observe(row)
        self._seen.append(self.posteriors[0].latest(self.gp.targets, known))

    def forget(self, count: int) -> None:
        """Takes back picks."""
        super().forget(count)
        self._seen.count = count

    def target_variance(self, count: int) -> Tensor:
        """Var[f(a)] of each target after `count` picks, (m,)."""
        return (self.prior - self.target_projections[:count].square().sum(0)).clamp_min(0)


class PerTarget(Targeted):
    """Objectives that need each Cov[f(x), f(a)]: the numbers are s and those m covariances."""

    additive = False  # scores depend on what is known of each target, and m numbers at many steps would be too many

    def start(self, rows: Tensor, given: Memory) -> Tensor:
        """(1 + m, B)."""
        cross = self.gp.kernel.cross(self.gp.targets.to(rows.dtype), rows)
        return torch.cat([self.posteriors[0].prior_variance(rows)[None], cross])

    def picks(self, first: int, last: int) -> Picks:
        """Also p(A), (b, m)."""
        return Picks(first, super().picks(first, last).frames, [self.target_projections[first:last].clone()])

    def advance(self, numbers: Tensor, columns: Tensor, picks: Picks, sign: float = 1.0) -> Tensor:
        """S falls by p(x)^2, the covariance with a by p(x) p(a)."""
        projection = columns[0]  # (b, B)
        fall = torch.cat([projection.square().sum(0, keepdim=True), picks.extra[0].T @ projection])
        return torch.sub(numbers, fall, alpha=sign)

    def spread(self, scales: Tensor) -> Tensor:
        """A covariance is at most the product of two standard deviations."""
        return torch.cat([scales, (scales * self.prior.to(scales.dtype)[:, None]).sqrt()])

    def _targets_after(self, count: int, like: Tensor) -> Tensor:
        return self.target_variance(count).to(like.dtype)[:, None]  # (m, 1)
