"""Mean-marginal ITL."""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.objectives.targeted import PerTarget


class MeanMarginalITL(PerTarget):
    """Mean over targets of I(f(a); y_x) = -1/2 log(1 - k(x, a)^2 / ((s + r)(s_a + r_A))): each target for itself."""

    name = "mean_marginal_itl"

    def score(self, numbers: Tensor, count: int) -> Tensor:
        """The mean, in nats."""
        shares = self._shares(numbers[0].clamp_min(0), numbers[1:].square(), count)
        # A share of 1 would be a noise-free answer about a noise-free target.
        return -0.5 * torch.log1p(-shares.clamp_max(1 - 1e-15)).mean(0)

    def upper(self, numbers: Tensor, slack: Tensor, count: int) -> Tensor:
        """The largest covariances with the smallest s."""
        reach = (numbers[1:].abs() + slack[1:]).clamp_min(0)
        shares = self._shares((numbers[0] - slack[0]).clamp_min(0), reach.square(), count)
        # Where float32 cannot tell a share from 1, the logarithm has no bound.
        shares = torch.where(shares > 1 - 64 * torch.finfo(shares.dtype).eps, 1.0, shares)
        return -0.5 * torch.log1p(-shares).mean(0)

    def _shares(self, variance: Tensor, squares: Tensor, count: int) -> Tensor:
        """Squared correlation of each answer with each target, (m, B)."""
        targets = self._targets_after(count, variance) + self.gp.target_noise_std**2
        return squares / (targets * (variance + self.noise_variance)).clamp_min(torch.finfo(variance.dtype).tiny)
