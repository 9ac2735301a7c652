"""CTL."""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.objectives.base import Memory, Picks
from itl_hf.objectives.targeted import PerTarget


class CTL(PerTarget):
    """Mean correlation Cor[f(x), f(a) | picks] with the targets: cosine similarity that knows what was picked."""

    name = "ctl"
    #: A row or target whose variance fell to this share of its prior is known: its correlations are rounding.
    floor = 1e-9

    def start(self, rows: Tensor, given: Memory) -> Tensor:
        """(2 + m, B): the prior variance is kept for the floor."""
        return torch.cat([super().start(rows, given), self.posteriors[0].prior_variance(rows)[None]])

    def advance(self, numbers: Tensor, columns: Tensor, picks: Picks, sign: float = 1.0) -> Tensor:
        """The prior stays."""
        return torch.cat([super().advance(numbers[:-1], columns, picks, sign), numbers[-1:]])

    def score(self, numbers: Tensor, count: int) -> Tensor:
        """Between -1 and 1."""
        scale = self._scale(numbers[0], numbers[-1], count)  # (m, B)
        return (numbers[1:-1] / scale).mean(0)

    def upper(self, numbers: Tensor, slack: Tensor, count: int) -> Tensor:
        """The largest covariances with the smallest s where they are positive; never above 1."""
        reach = numbers[1:-1] + slack[1:-1]
        low = self._scale(numbers[0] - slack[0], numbers[-1], count)
        high = self._scale(numbers[0] + slack[0], numbers[-1], count)
        return torch.where(reach > 0, reach / low, reach / high).mean(0)

    def spread(self, scales: Tensor) -> Tensor:
        """The prior is as exact as the variance."""
        return torch.cat([super().spread(scales), scales])

    def _scale(self, variance: Tensor, prior: Tensor, count: int) -> Tensor:
        rows = variance.maximum(self.floor * prior).clamp_min(torch.finfo(variance.dtype).tiny)
        targets = self._targets_after(count, variance).maximum(self.floor * self.prior.to(variance.dtype)[:, None])
        return (rows * targets.clamp_min(torch.finfo(variance.dtype).tiny)).sqrt()

    def rounding(self, largest: float) -> float:
        """A correlation near the floor has lost half of its digits, and more where variances fall to that of the
        noise.
        """
        return 1e-9 + super().rounding(largest)
