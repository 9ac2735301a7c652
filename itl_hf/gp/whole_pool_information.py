"""The information about the targets that the answers to all rows of a pool would give, in nats.

    I(y_A; y_S) = 1/2 log det(K_AA + R) - 1/2 log det(K_AA|S + R)

with y_A the targets' values with their noise, R its diagonal matrix of variances, and K_AA|S the targets' posterior
covariance given one answer to every row. The gains of ITL sum to the same with the picks in place of S, so that their
sum is at most this.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess

#: The determinants of more targets would take longer than the selection.
MOST_TARGETS = 2048


def is_defined(gp: GaussianProcess) -> bool:
    """Whether the information is finite and quick to compute: the targets' values have noise, and are not too many."""
    return gp.target_noise_std > 0 and len(gp.targets) <= MOST_TARGETS


def information(gp: GaussianProcess, prior: Tensor, removed: Tensor) -> float:
    """Returns the information from covariances of the targets.

    Args:
        gp (`GaussianProcess`):
            Noise and weights of the targets.
        prior (`Tensor`):
            (m, m) float64, K_AA.
        removed (`Tensor`):
            (m, m) float64, K_AA - K_AA|S.

    Example:
        >>> from itl_hf.gp.kernels import Linear
        >>> gp = GaussianProcess(Linear(), torch.eye(1).double(), noise_std=1.0, target_noise_std=1.0)
        >>> round(information(gp, torch.tensor([[1.0]]).double(), torch.tensor([[0.5]]).double()), 4)
        0.1438
    """
    weights = 1.0 if gp.target_weights is None else gp.target_weights
    noise = gp.target_noise_std**2 / weights * torch.ones(len(gp.targets), dtype=prior.dtype, device=prior.device)
    before, after = (torch.linalg.slogdet(matrix + noise.diag()) for matrix in (prior, prior - removed))
    value = float(before.logabsdet - after.logabsdet) / 2
    # Rounding can make the posterior covariance indefinite where the noise is tiny.
    return value if float(after.sign) > 0 and math.isfinite(value) else math.nan
