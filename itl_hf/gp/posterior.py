"""Gaussian posteriors over f that are updated by one observation at a time: the protocol, and the posterior for finite
features. `itl_hf.gp.kernel_posterior` has the posterior for any kernel.

Both represent the posterior by *projections*: functions p_1, p_2, ... of a row with

    Cov[f(x), f(y) | observations] = k(x, y) - sum_j p_j(x) p_j(y).

An observation at z adds one, p(x) = Cov[f(x), f(z)] / sqrt(noise variance + Var[f(z)]): the next column of a Cholesky
factor. For finite features p is an inner product with a direction, so nothing is stored per row and a d x d matrix is
never formed. For other kernels a row's new projections are computed from its earlier ones. In both cases the number of
observations may exceed d.

Source: "Active Few-Shot Fine-Tuning" (Huebotter, Sukhija, Treven, As, Krause, 2024), section 2; Rasmussen & Williams
(2006), eq. 2.24.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from itl_hf.gp.growable_tensor import GrowableTensor
from itl_hf.gp.kernels import Linear
from itl_hf.gp.quality import Quality, scale_rows


def check_noise_std(noise_std: float) -> float:
    """Returns the value; raises `ValueError` unless it is a positive finite number."""
    if not (math.isfinite(noise_std) and noise_std > 0):
        raise ValueError(f"noise_std must be a positive finite number, got {noise_std}")
    return noise_std


@dataclass(frozen=True)
class CholeskyBlock:
    """Consecutive observations, in the form from which the projections of any row are computed. It stays valid when the
    posterior is truncated.

    Args:
        rows (`Tensor`):
            (b, d), directions of a linear posterior, or the observed rows of another.
        earlier (`Tensor`):
            (b, j), projections of the observed rows on everything before; empty for a linear posterior.
        factor (`Tensor`):
            (b, b) lower triangular, the new part of the Cholesky factor; empty for a linear posterior.
    """

    rows: Tensor
    earlier: Tensor
    factor: Tensor

    def to(self, dtype: torch.dtype) -> CholeskyBlock:
        """Returns the same observations in another precision."""
        return CholeskyBlock(self.rows.to(dtype), self.earlier.to(dtype), self.factor.to(dtype))


class Posterior(Protocol):
    """What objectives need of a posterior.

    A posterior may be given values of f at some rows to begin with. They make the first `r` projections and are not
    counted in `num_observations`.
    """

    noise_variance: float
    num_observations: int
    #: Whether new projections of a row depend on its earlier ones.
    needs_projection_cache: bool
    #: The largest share of a function's variance that the given values explain.
    given_share: float

    def given_projections(self, rows: Tensor) -> Tensor:
        """Computes the projections on the given values, (B, d) -> (r, B), in the rows' precision."""

    def cholesky_block(self, first: int, last: int) -> CholeskyBlock:
        """Returns observations `first` to `last` (exclusive), for `project`."""

    def project(self, rows: Tensor, earlier: Tensor, block: CholeskyBlock, cross: Tensor | None = None) -> Tensor:
        """Computes new projections of each row, (B, d) -> (b, B).

        Args:
            rows (`Tensor`):
                (B, d).
            earlier (`Tensor`):
                (j, B), the rows' projections on everything before `block`; not used by a linear posterior.
            block (`CholeskyBlock`):
                The observations.
            cross (`Tensor`, *optional*):
                (b, B), kernel between `block.rows` and `rows`, where the caller has it.
        """

    def last_projection(self, rows: Tensor, earlier: Tensor) -> Tensor:
        """Computes each row's projection on the last observation, (B, d) float64 -> (1, B); see `project`."""

    def observe(self, row: Tensor, quality: Quality = 1.0) -> None:
        """Adds an observation at `row`, (d,) float64, whose noise variance is `noise_variance / quality`."""

    def truncate(self, num_observations: int) -> None:
        """Drops all observations after the first `num_observations`."""

    def projections(self, rows: Tensor) -> Tensor:
        """Computes all projections of each row, those on given values first, (B, d) -> (r + n, B) float64."""


class LinearPosterior:
    """Posterior for the linear kernel: projections are inner products with directions.

    Args:
        dimension (`int`):
            Length d of a feature row.
        noise_std (`float`):
            Standard deviation of the observation noise, in the units of f. Positive.
        device (`torch.device`, *optional*):
            Device of the directions.

    Raises:
        `ValueError`: If `noise_std` is not a positive finite number.

    Example:
        >>> import torch
        >>> posterior = LinearPosterior(dimension=2, noise_std=1.0)
        >>> posterior.observe(torch.tensor([1.0, 0.0]))
        >>> posterior.variance(torch.eye(2))
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """

    needs_projection_cache = False
    given_share = 0.0

    def __init__(self, dimension: int, noise_std: float, device: torch.device | None = None) -> None:
        self.noise_variance = check_noise_std(noise_std) ** 2
        self.num_observations = 0
        self._directions = GrowableTensor(dimension, torch.zeros(0, device=device))
        self._num_given = 0

    @classmethod
    def given_values(
        cls, rows: Tensor, rows_noise_std: float, noise_std: float, weights: Tensor | None = None
    ) -> LinearPosterior:
        """Builds the posterior that is given the values of f at `rows`, observed with a noise of their own.

        Args:
            rows (`Tensor`):
                (m, d) feature rows.
            rows_noise_std (`float`):
                Noise of these observations; 0 conditions on f(rows) exactly.
            noise_std (`float`):
                Noise of the observations that follow.
            weights (`Tensor`, *optional*):
                (m,), how often each row was observed; `itl_hf.gp.quality`.
        """
        posterior = cls(rows.shape[1], noise_std, rows.device)
        # A'(AA' + r I)^-1 A from the singular values of A: AA' would square the condition number, and for m > d,
        # repeated rows or r = 0 it is singular.
        _, scale, basis = torch.linalg.svd(scale_rows(rows.double(), weights), full_matrices=False)  # (k,), (k, d)
        nonzero = scale > scale.max() * max(rows.shape) * torch.finfo(torch.float64).eps
        share = scale[nonzero] ** 2 / (scale[nonzero] ** 2 + rows_noise_std**2)  # (r,)
        posterior._directions.append(share.sqrt()[:, None] * basis[nonzero])
        posterior.given_share = float(share.max()) if len(share) else 0.0
        posterior._num_given = posterior._directions.length
        return posterior

    @property
    def directions(self) -> Tensor:
        """All directions, those of given values first, (r + n, d) float64."""
        return self._directions[:]

    @property
    def given_directions(self) -> Tensor:
        """The directions of given values, (r, d) float64."""
        return self._directions[: self._num_given]

    def given_projections(self, rows: Tensor) -> Tensor:
        """Computes the inner products with the directions of given values, (B, d) -> (r, B)."""
        return (rows @ self.given_directions.to(rows.dtype).T).T

    def cholesky_block(self, first: int, last: int) -> CholeskyBlock:
        """Returns the directions of observations `first` to `last` (exclusive)."""
        rows = self._directions[self._num_given + first : self._num_given + last].clone()
        return CholeskyBlock(rows, rows[:, :0], rows[:0, :0])

    def project(self, rows: Tensor, earlier: Tensor, block: CholeskyBlock, cross: Tensor | None = None) -> Tensor:
        """Computes new projections of each row, (B, d) -> (b, B); `earlier` and `cross` are not used."""
        return block.rows @ rows.T

    def last_projection(self, rows: Tensor, earlier: Tensor) -> Tensor:
        """Computes each row's projection on the last observation, (B, d) -> (1, B); `earlier` is not used."""
        return (rows @ self.directions[-1])[None]

    def observe(self, row: Tensor, quality: Quality = 1.0) -> None:
        """Adds an observation at `row`, (d,), whose noise variance is `noise_variance / quality`."""
        row, directions = row.double(), self.directions
        covariance = torch.addmv(row, directions.T, directions @ row, alpha=-1)  # (d,), posterior covariance times row
        pivot = row.dot(covariance).clamp_min_(0).add_(self.noise_variance / quality).sqrt_()
        torch.div(covariance, pivot, out=self._directions.next())
        self.num_observations += 1

    def truncate(self, num_observations: int) -> None:
        """Drops all observations after the first `num_observations`."""
        self.num_observations = num_observations
        self._directions.length = self._num_given + num_observations

    def projections(self, rows: Tensor) -> Tensor:
        """Computes all projections of each row, those on given values first, (B, d) -> (r + n, B) float64."""
        return self.directions @ rows.double().T

    def variance(self, rows: Tensor) -> Tensor:
        """Computes the posterior variance of f at each row, (B, d) -> (B,) float64, never negative."""
        rows = rows.double()
        return (Linear().diagonal(rows) - (rows @ self.directions.T).square().sum(1)).clamp_min(0)

    def covariance(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes the posterior covariance of f between two sets of rows, (B, d), (C, d) -> (B, C) float64."""
        rows, others = rows.double(), others.double()
        return rows @ others.T - (rows @ self.directions.T) @ (others @ self.directions.T).T
