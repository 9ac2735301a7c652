"""Gaussian posterior over f(x) = phi(x).w with w ~ N(0, I), for finite features phi.

The posterior covariance of the weights is kept as `I - U'U` with one row of U for each observation, so the d x d matrix
is never formed: memory is O(n d), a variance costs O(n d), and the same object serves n > d and n < d. Everything is
float64: with `noise_std` 1e-4 the variances live at 1e-8, below what float32 can resolve next to k(x, x) = 1.

Source: "Active Few-Shot Fine-Tuning" (Huebotter, Sukhija, Treven, As, Krause, 2024), section 2.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


class Posterior:
    """Posterior of a Gaussian process with the linear kernel, one observation at a time.

    Args:
        dimension (`int`): length d of a feature row.
        noise_std (`float`): standard deviation of the observation noise, in the units of f. Positive.

    Raises:
        `ValueError`: `noise_std` is not a positive finite number.

    Example:
        >>> import torch
        >>> posterior = Posterior(dimension=2, noise_std=1.0)
        >>> direction = posterior.observe(torch.tensor([1.0, 0.0]))
        >>> posterior.variance(torch.eye(2))
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """

    def __init__(self, dimension: int, noise_std: float) -> None:
        if not (math.isfinite(noise_std) and noise_std > 0):
            raise ValueError(f"noise_std must be a positive finite number, got {noise_std}")
        self.noise_variance = noise_std**2
        self._rows = torch.zeros(0, dimension, dtype=torch.float64)  # (capacity, d), the first _count in use
        self._count = 0

    @classmethod
    def given_values(cls, rows: Tensor, rows_noise_std: float, noise_std: float) -> Posterior:
        """The posterior after f was observed at all of `rows`, with a noise of their own, before any other observation.

        Args:
            rows (`Tensor`): (m, d) feature rows.
            rows_noise_std (`float`): noise of these observations; 0 conditions on f(rows) exactly.
            noise_std (`float`): noise of the observations that follow.
        """
        posterior = cls(rows.shape[1], noise_std)
        # A'(AA' + r I)^-1 A from the singular values of A: AA' would square the condition number, and for m > d,
        # repeated rows or r = 0 it is singular.
        _, scale, basis = torch.linalg.svd(rows.double(), full_matrices=False)  # (k,), (k, d)
        known = scale > scale.max() * max(rows.shape) * torch.finfo(torch.float64).eps
        share = scale[known] ** 2 / (scale[known] ** 2 + rows_noise_std**2)  # (r,)
        posterior._append(share.sqrt()[:, None] * basis[known])
        return posterior

    @property
    def directions(self) -> Tensor:
        """The rows u of the covariance I - sum u'u, (k, d) float64."""
        return self._rows[: self._count]

    def variance(self, rows: Tensor) -> Tensor:
        """Posterior variance of f at each row, (B, d) -> (B,) float64, never negative."""
        rows = rows.double()
        removed = rows @ self.directions.T  # (B, k)
        return (rows.square().sum(1) - removed.square().sum(1)).clamp_min(0)

    def covariance(self, rows: Tensor, others: Tensor) -> Tensor:
        """Posterior covariance of f between two sets of rows, (B, d), (C, d) -> (B, C) float64."""
        rows, others = rows.double(), others.double()
        return rows @ others.T - (rows @ self.directions.T) @ (others @ self.directions.T).T

    def direction(self, row: Tensor) -> Tensor:
        """What an observation at `row` would remove: u with Var[f(x)] falling by (phi(x).u)^2, (d,) -> (d,) float64."""
        row = row.double()
        projected = row - self.directions.T @ (self.directions @ row)  # (d,), P phi
        variance = (row @ projected).clamp_min(0)
        return projected / (self.noise_variance + variance).sqrt()

    def observe(self, row: Tensor) -> Tensor:
        """Adds an observation at `row` (its value does not matter for the variance); returns its direction, (d,)."""
        direction = self.direction(row)
        self._append(direction[None])
        return direction

    def _append(self, rows: Tensor) -> None:
        """Room doubles when it runs out: n appends copy O(n d) numbers, not O(n^2 d)."""
        needed = self._count + len(rows)
        if needed > len(self._rows):
            room = torch.zeros(max(needed, 2 * len(self._rows), 16), self._rows.shape[1], dtype=torch.float64)
            room[: self._count] = self.directions
            self._rows = room
        self._rows[self._count : needed] = rows
        self._count = needed
