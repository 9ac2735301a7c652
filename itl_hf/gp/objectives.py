"""What makes one row a better pick than another: scores, and how they change when a row is picked.

An objective keeps a few numbers a row (for ITL two variances). A pick moves them through inner products of the row with
a few directions (for ITL two), so a pick costs two inner products a row, whatever was picked before.

Sources: Huebotter et al., "Active Few-Shot Fine-Tuning" / "Transductive Active Learning" (2024), eq. 43-44 of the
appendix for the two readings of I(f(A); y_x) that `target_noise_std` chooses between.
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
from torch import Tensor

from itl_hf.gp.posterior import Posterior


class Objective(Protocol):
    """What the greedy loop asks of an objective. Rows are prepared features, float64."""

    def start(self, rows: Tensor) -> Tensor:
        """The numbers kept for each row before any pick, (B, d) -> (k, B)."""

    def score(self, numbers: Tensor) -> Tensor:
        """The objective's gain of picking each row next, (k, B) -> (B,)."""

    def observe(self, row: Tensor) -> Tensor:
        """Picks a row, (d,) -> the directions (q, d) along which the others change."""

    def update(self, numbers: Tensor, projections: Tensor) -> Tensor:
        """The numbers after a pick, from the rows' inner products with its directions, (k, B), (q, B) -> (k, B)."""

    def rounding(self, largest: float) -> float:
        """How far two scores may differ by rounding alone, when the largest k(x, x) is `largest`."""


class InformationGain:
    """ITL: I(f(A); y_x | picks) = 1/2 log[(s + r) / (c + r)], the information a row's answer carries about the targets.

    s is the row's posterior variance, c the same given the targets' values as well, r the noise variance.

    Args:
        targets (`Tensor`): (m, d) prepared target rows A.
        noise_std (`float`): noise of the picks' answers.
        target_noise_std (`float`): noise of the targets' values: 0 gives I(f(A); y_x) of the paper's theory,
            `noise_std` gives I(y(A); y_x). With 0 and as many independent targets as dimensions, c = 0 for every row
            and ITL has lost its direction.

    Example:
        >>> import torch
        >>> itl = InformationGain(torch.eye(2)[:1], noise_std=1.0, target_noise_std=0.0)
        >>> itl.score(itl.start(torch.eye(2)))
        tensor([0.3466, 0.0000], dtype=torch.float64)
    """

    def __init__(self, targets: Tensor, noise_std: float, target_noise_std: float) -> None:
        if not (math.isfinite(target_noise_std) and target_noise_std >= 0):
            raise ValueError(f"target_noise_std must be 0 or a positive finite number, got {target_noise_std}")
        self.posterior = Posterior(targets.shape[1], noise_std)
        self.given_targets = Posterior.given_values(targets, target_noise_std, noise_std)
        self.noise_variance = noise_std**2

    def start(self, rows: Tensor) -> Tensor:
        """Variances s and c of each row, (B, d) -> (2, B)."""
        return torch.stack([self.posterior.variance(rows), self.given_targets.variance(rows)])

    def score(self, numbers: Tensor) -> Tensor:
        """Information gain of each row in nats, (2, B) -> (B,)."""
        variance, given = numbers
        # log1p of the difference: at large noise the ratio is 1 + 1e-6 and its logarithm would lose half of the digits.
        return 0.5 * torch.log1p((variance - given).clamp_min(0) / (given + self.noise_variance))

    def observe(self, row: Tensor) -> Tensor:
        """Conditions both posteriors on the row, (d,) -> (2, d)."""
        return torch.stack([self.posterior.observe(row), self.given_targets.observe(row)])

    def update(self, numbers: Tensor, projections: Tensor) -> Tensor:
        """Both variances fall by the squared projections, (2, B), (2, B) -> (2, B)."""
        return (numbers - projections.square()).clamp_min_(0)

    def rounding(self, largest: float) -> float:
        """Variances carry about 1e-15 of the largest k(x, x); the score divides that by the noise variance."""
        return 4e-15 * largest / self.noise_variance
