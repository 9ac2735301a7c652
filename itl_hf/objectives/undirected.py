"""Undirected: uncertainty sampling, the pick that the model knows least about, whatever the targets.

    I(f(x); y_x | D) = 1/2 log(1 + s / r)

with s = Var[f(x) | D] and r the noise variance. Greedy maximisation of it is greedy D-optimal design: the gains add up
to the information gain 1/2 log det(I + K / r) of the picks.

Source: Settles, "Active Learning Literature Survey" (2009), uncertainty sampling. ITL is compared with it in Huebotter
et al., "Transductive Active Learning: Theory and Applications" (2024).
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.quality import Quality
from itl_hf.objectives.base import Objective, ObservationBlock, ProjectionTables


class Undirected(Objective):
    """Information about the row's own value, 1/2 log(1 + s / r), in nats."""

    name = "undirected"

    def __init__(self, gp: GaussianProcess) -> None:
        super().__init__(gp, [gp.posterior()])

    def initial_stats(self, rows: Tensor, tables: ProjectionTables) -> Tensor:
        """Variance s, (1, B)."""
        return self.gp.kernel.diagonal(rows)[None]

    def decrements(self, projections: Tensor, observations: ObservationBlock) -> Tensor:
        """The variance falls by the squared projections."""
        return projections.square()

    def optimistic_stats(
        self, stats: Tensor, projections: Tensor, observations: ObservationBlock, prefix_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The variance only falls, so it is largest at the start of a segment."""
        after = stats[:, None] - prefix_mask @ self.decrements(projections, observations)
        return torch.cat([stats[:, None], after[:, :-1]], dim=1), after

    def score(self, stats: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """`s / r`."""
        return stats[0].clamp_min(0) / self.answer_noise(stats, quality)

    def upper_bound(self, stats: Tensor, slack: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The score of the largest s."""
        return (stats[0] + slack[0]) / self.answer_noise(stats, quality)

    def gain(self, score: Tensor) -> Tensor:
        """Nats."""
        return 0.5 * torch.log1p(score)
