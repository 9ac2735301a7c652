"""Nystroem features: finite features for any kernel, for pools too large to keep every row's projections on every pick.

k(x, y) is approximated by phi(x).phi(y) with phi(x) = K_LL^(-1/2) k(L, x) for some landmark rows L: the part of f that
the landmarks explain. Selection with these features uses the linear posterior, which streams the pool and keeps two
numbers per row. The record states what is lost: the mean share of k(x, x) that the features do not carry, over a sample
of the pool and over the targets.

Source: Williams & Seeger, "Using the Nystroem Method to Speed Up Kernel Machines" (2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.kernels import Kernel

#: Directions with less than this share of the leading eigenvalue are left out: they would carry rounding alone.
TOLERANCE = 1e-10


@dataclass(frozen=True)
class FeatureMap:
    """phi(x) = weights k(L, x).

    Args:
        kernel (`Kernel`):
            The kernel that is approximated.
        landmarks (`Tensor`):
            (L, d) float64 prepared rows.
        weights (`Tensor`):
            (r, L) float64, the inverse square root of K_LL without its null directions.

    Example:
        >>> from itl_hf.gp.kernels import RBF
        >>> rows = torch.nn.functional.normalize(torch.arange(6.0).view(3, 2) + 1).double()
        >>> features = FeatureMap.fit(RBF(0.4), rows)(rows)
        >>> torch.allclose(features @ features.T, RBF(0.4).cross(rows, rows), atol=1e-4)
        True
    """

    kernel: Kernel
    landmarks: Tensor
    weights: Tensor

    @classmethod
    def fit(cls, kernel: Kernel, landmarks: Tensor) -> FeatureMap:
        """Builds the map from landmark rows, (L, d)."""
        landmarks = landmarks.double()
        values, vectors = torch.linalg.eigh(kernel.cross(landmarks, landmarks))  # (L,), (L, L)
        nonzero = values > values[-1] * TOLERANCE
        return cls(kernel, landmarks, (vectors[:, nonzero] * values[nonzero].rsqrt()).T)

    @property
    def dimension(self) -> int:
        """Length of a feature row."""
        return len(self.weights)

    def __call__(self, rows: Tensor) -> Tensor:
        """Computes the features of prepared rows, (B, d) -> (B, r), in their precision."""
        return self.kernel.cross(rows, self.landmarks.to(rows.dtype)) @ self.weights.to(rows.dtype).T

    def lost_share(self, rows: Tensor) -> float:
        """Computes the mean share of k(x, x) that the features of these rows do not carry, between 0 and 1."""
        rows = rows.double()
        return float((1 - self(rows).square().sum(1) / self.kernel.diagonal(rows)).clamp(0, 1).mean())
