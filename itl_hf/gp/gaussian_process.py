"""The Gaussian process of a selection: its kernel, targets and noise, and the posteriors that follow from them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from itl_hf.gp.kernel_posterior import KernelPosterior
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.many_targets import Pivots, pivot_targets, stand_ins
from itl_hf.gp.posterior import LinearPosterior, Posterior


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process prior over f, the targets, and the noise of observations.

    Args:
        kernel (`Kernel`):
            Covariance function on prepared features.
        targets (`Tensor`):
            (m, d) prepared target rows A, float64.
        noise_std (`float`):
            Standard deviation of the noise on picks' answers. Positive.
        target_noise_std (`float`):
            Standard deviation of the noise on the targets' values; 0 if they are known exactly.
        target_weights (`Tensor`, *optional*):
            (m,) float64, positive: how many copies of itself each target stands for; 1 when left out. Copies of a value
            that is known exactly tell nothing more, so without noise on the targets' values ITL does not depend on it.
        pivots (`Pivots`, *optional*):
            What stands for many targets (`itl_hf.gp.many_targets`), where it was computed before.
    """

    kernel: Kernel
    targets: Tensor
    noise_std: float
    target_noise_std: float
    target_weights: Tensor | None = None
    pivots: Pivots | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not (math.isfinite(self.target_noise_std) and self.target_noise_std >= 0):
            raise ValueError(f"target_noise_std must be 0 or a positive finite number, got {self.target_noise_std}")

    def reduced_targets(self) -> Pivots | None:
        """Returns the pivots that stand for many targets; `None` for few targets or the linear kernel."""
        if self.pivots is None:
            object.__setattr__(self, "pivots", pivot_targets(self.kernel, self.targets, self.target_weights))
        return self.pivots

    def posterior(self) -> Posterior:
        """Returns the posterior before any observation."""
        if self.kernel.linear:
            return LinearPosterior(self.targets.shape[1], self.noise_std, self.targets.device)
        return KernelPosterior(self.kernel, self.noise_std, self.targets.device)

    def posterior_given_targets(self) -> Posterior:
        """Returns the posterior that is given the targets' values, before any other observation."""
        weights = self.target_weights if self.target_noise_std > 0 else None
        noises = self.target_noise_std, self.noise_std
        if self.kernel.linear:
            rows = stand_ins(self.targets, weights)
            if rows is not None:
                return LinearPosterior.given_values(rows, *noises)
            return LinearPosterior.given_values(self.targets, *noises, weights)
        pivots = self.reduced_targets()
        if pivots is not None:
            return KernelPosterior.given_pivots(self.kernel, pivots, *noises, weights)
        return KernelPosterior.given_values(self.kernel, self.targets, *noises, weights)
