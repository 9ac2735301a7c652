"""Uncertainty sampling."""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.objectives.base import Memory, Objective, Picks


class Undirected(Objective):
    """1/2 log(1 + s / r): the row the model knows least about, whatever the targets (uncertainty sampling, D-optimal
    design).
    """

    name = "undirected"

    def __init__(self, gp: GaussianProcess) -> None:
        super().__init__(gp, [gp.posterior()])

    def start(self, rows: Tensor, given: Memory) -> Tensor:
        """Variance s, (1, B)."""
        return self.posteriors[0].prior_variance(rows)[None]

    def falls(self, columns: Tensor, picks: Picks) -> Tensor:
        """The variance falls by the squared projections."""
        return columns.square()

    def best_of_stretches(self, numbers: Tensor, columns: Tensor, picks: Picks, sums: Tensor) -> tuple[Tensor, Tensor]:
        """The variance only falls."""
        after = numbers[:, None] - sums @ self.falls(columns, picks)
        return torch.cat([numbers[:, None], after[:, :-1]], dim=1), after

    def score(self, numbers: Tensor, count: int) -> Tensor:
        """S / r."""
        return numbers[0].clamp_min(0) / self.noise_variance

    def upper(self, numbers: Tensor, slack: Tensor, count: int) -> Tensor:
        """The largest s."""
        return (numbers[0] + slack[0]) / self.noise_variance

    def gain(self, score: Tensor) -> Tensor:
        """Nats."""
        return 0.5 * torch.log1p(score)
