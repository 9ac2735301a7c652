"""Mean-marginal ITL: the pick whose answer gives most information about a single target, on average over the targets.

    mean over a in A of I(f(a); y_x | D) = mean over a of -1/2 log(1 - k_D(x, a)^2 / ((s + r)(s_a + r_A)))

with s = Var[f(x) | D], s_a = Var[f(a) | D], k_D the posterior covariance given the picks D, r the noise variance of the
row's answer and r_A that of the targets' values. Unlike ITL it ignores the correlations between targets, also that of a
target with copies of itself: weights of targets are those of the mean.

Source: Huebotter et al., "Transductive Active Learning: Theory and Applications" (2024), "MM-ITL"; MacKay,
"Information-Based Objective Functions for Active Data Selection" (1992), "mean marginal information gain".
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.quality import Quality
from itl_hf.objectives.targeted import PerTarget


class MeanMarginalITL(PerTarget):
    """Mean information about a single target, in nats."""

    name = "mean_marginal_itl"

    def score(self, stats: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The mean, in nats."""
        shares = self._shares(stats[0].clamp_min(0), stats[1:].square(), num_observations, quality)
        # A share of 1 would be a noise-free answer about a noise-free target.
        return -0.5 * self.mean(torch.log1p(-shares.clamp_max(1 - 1e-15)))

    def upper_bound(self, stats: Tensor, slack: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The score of the largest covariances with the smallest s."""
        covariance = (stats[1:].abs() + slack[1:]).clamp_min(0)
        variance = (stats[0] - slack[0]).clamp_min(0)
        shares = self._shares(variance, covariance.square(), num_observations, quality)
        # Where a share rounds to 1 in float32, the logarithm has no bound.
        shares = torch.where(shares > 1 - 64 * torch.finfo(shares.dtype).eps, 1.0, shares)
        return -0.5 * self.mean(torch.log1p(-shares))

    def _shares(self, variance: Tensor, squares: Tensor, num_observations: int, quality: Quality) -> Tensor:
        """Squared correlation of each answer with each target's value, noise included, (m, B)."""
        targets = self.target_variance(num_observations, variance.dtype) + self.gp.target_noise_std**2
        answers = variance + self.answer_noise(variance, quality)
        return squares / (targets * answers).clamp_min(torch.finfo(variance.dtype).tiny)
