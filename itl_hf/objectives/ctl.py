"""CTL, correlation-based transductive learning: the pick with the largest mean correlation with the targets.

    mean over a in A of Cor[f(x), f(a) | D] = mean over a of k_D(x, a) / sqrt(s s_a)

with s = Var[f(x) | D], s_a = Var[f(a) | D] and k_D the posterior covariance given the picks D. Before any pick it is a
kernel's cosine similarity; later it accounts for what was picked. The mean is weighted by the targets' weights.

f(x) is what an answer of quality 1 would say but for its noise. For a row of lower quality q, f(x) with the noise that
its quality adds takes its place, whose variance is s + r / q - r. So the correlation falls to 0 with q.

Source: Huebotter et al., "Transductive Active Learning: Theory and Applications" (2024), where it is compared with ITL.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.quality import Quality, added_noise
from itl_hf.objectives.base import ObservationBlock, ProjectionTables
from itl_hf.objectives.targeted import PerTarget


class CTL(PerTarget):
    """Mean posterior correlation with the targets."""

    name = "ctl"
    #: A variance below this share of its prior is set to it: what is left there is rounding, and so would be
    #: correlations.
    floor = 1e-9

    def initial_stats(self, rows: Tensor, tables: ProjectionTables) -> Tensor:
        """(2 + m, B): the prior variance is kept as well, for the floor."""
        return torch.cat([super().initial_stats(rows, tables), self.gp.kernel.diagonal(rows)[None]])

    def update(self, stats: Tensor, projections: Tensor, observations: ObservationBlock, sign: float = 1.0) -> Tensor:
        """The prior variance does not change."""
        return torch.cat([super().update(stats[:-1], projections, observations, sign), stats[-1:]])

    def score(self, stats: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The mean correlation, between -1 and 1."""
        scale = self._scale(stats[0], stats[-1], num_observations, quality)  # (m, B)
        return self.mean(stats[1:-1] / scale)

    def upper_bound(self, stats: Tensor, slack: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The largest covariances, with the smallest s where they are positive and the largest where not."""
        covariance = stats[1:-1] + slack[1:-1]
        low = self._scale(stats[0] - slack[0], stats[-1], num_observations, quality)
        high = self._scale(stats[0] + slack[0], stats[-1], num_observations, quality)
        return self.mean(torch.where(covariance > 0, covariance / low, covariance / high))

    def resolves(self, stats: Tensor, num_observations: int) -> Tensor:
        """False where a variance is below its floor: the correlation is then that of the floor."""
        targets = self.target_variance(num_observations, stats.dtype)[:, 0]
        is_above = (stats[0] > self.floor * stats[-1]).all()
        return is_above & (targets > self.floor * self.target_prior).all()

    def expand_scales(self, scales: Tensor) -> Tensor:
        """The prior variance is as exact as the variance."""
        return torch.cat([super().expand_scales(scales), scales])

    def _scale(self, variance: Tensor, prior: Tensor, num_observations: int, quality: Quality) -> Tensor:
        """sqrt(s s_a), (m, B), with both variances above their floors and the noise that quality adds."""
        tiny = torch.finfo(variance.dtype).tiny
        rows = variance.maximum(self.floor * prior).clamp_min(tiny)
        if isinstance(quality, Tensor):
            rows = rows + added_noise(self.noise_variance, quality, rows.dtype)
        target_floor = self.floor * self.target_prior.to(variance.dtype)[:, None]
        targets = self.target_variance(num_observations, variance.dtype).maximum(target_floor)
        return (rows * targets.clamp_min(tiny)).sqrt()
