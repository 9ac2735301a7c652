"""Gaussian posteriors over f, one observation at a time: the protocol, and the one for finite features.

`itl_hf.gp.kernel_posterior` has the one for any kernel. Both keep the posterior as a list of *projections*: functions
p_1, p_2, ... of a row with

    Cov[f(x), f(y) | observations] = k(x, y) - sum_j p_j(x) p_j(y).

An observation at z adds one, p(x) = Cov[f(x), f(z)] / sqrt(noise variance + Var[f(z)]): the next column of a Cholesky
factor. For finite features p is an inner product with a direction, so nothing is kept for each row and a d x d matrix
is never formed; for other kernels a row's new projections follow from its earlier ones. Either way n may exceed d.

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


def check_noise_std(noise_std: float) -> float:
    """The value, or a `ValueError` unless it is a positive finite number."""
    if not (math.isfinite(noise_std) and noise_std > 0):
        raise ValueError(f"noise_std must be a positive finite number, got {noise_std}")
    return noise_std


@dataclass(frozen=True)
class CholeskyBlock:
    """What it takes to compute some consecutive projections of any row; stays valid when the posterior forgets them.

    Args:
        rows (`Tensor`):
            (b, d), directions of a linear posterior, or the observed rows of another.
        earlier (`Tensor`):
            (b, j), projections of the observed rows on what was there before; empty for a linear posterior.
        factor (`Tensor`):
            (b, b) lower triangular, the new part of the Cholesky factor; empty for a linear posterior.
    """

    rows: Tensor
    earlier: Tensor
    factor: Tensor

    def to(self, dtype: torch.dtype) -> CholeskyBlock:
        """The same in another precision."""
        return CholeskyBlock(self.rows.to(dtype), self.earlier.to(dtype), self.factor.to(dtype))


class Posterior(Protocol):
    """What objectives ask of a posterior; `r` is the number of projections it began with, from values that were
    given.
    """

    noise_variance: float
    needs_memory: bool

    @property
    def count(self) -> int:
        """Observations so far, without values that were given at the start."""

    def prior_variance(self, rows: Tensor) -> Tensor:
        """k(x, x) of each row, (B, d) -> (B,), in the rows' precision."""

    def begin(self, rows: Tensor) -> Tensor:
        """Projections on the values that were given at the start, (B, d) -> (r, B)."""

    def frame(self, first: int, last: int) -> CholeskyBlock:
        """Observations `first` to `last` (exclusive), for `project`."""

    def project(self, rows: Tensor, known: Tensor, frame: CholeskyBlock, cross: Tensor | None = None) -> Tensor:
        """New projections of each row, (B, d) -> (b, B).

        Args:
            rows (`Tensor`):
                (B, d).
            known (`Tensor`):
                (j, B), the rows' projections before `frame`; ignored by a linear posterior.
            frame (`CholeskyBlock`):
                Which observations.
            cross (`Tensor`, *optional*):
                (b, B), kernel between `frame.rows` and `rows`, if it is known already.
        """

    def latest(self, rows: Tensor, known: Tensor) -> Tensor:
        """The last projection of each row, (B, d) float64 and (count - 1, B) -> (1, B); `known` as in `project`."""

    def observe(self, row: Tensor) -> None:
        """Adds an observation at `row`, (d,) float64."""

    def forget(self, count: int) -> None:
        """Drops all observations after the first `count`."""

    def projections(self, rows: Tensor) -> Tensor:
        """All projections of each row, those on given values first, (B, d) -> (r + count, B) float64."""


class LinearPosterior:
    """Posterior for the linear kernel: projections are inner products with directions.

    Args:
        dimension (`int`):
            Length d of a feature row.
        noise_std (`float`):
            Standard deviation of the observation noise, in the units of f. Positive.
        device (`torch.device`, *optional*):
            Where the directions live.

    Raises:
        `ValueError`: `noise_std` is not a positive finite number.

    Example:
        >>> import torch
        >>> posterior = LinearPosterior(dimension=2, noise_std=1.0)
        >>> posterior.observe(torch.tensor([1.0, 0.0]))
        >>> posterior.variance(torch.eye(2))
        tensor([0.5000, 1.0000], dtype=torch.float64)
    """

    needs_memory = False

    def __init__(self, dimension: int, noise_std: float, device: torch.device | None = None) -> None:
        self.noise_variance = check_noise_std(noise_std) ** 2
        self._directions = GrowableTensor(dimension, torch.zeros(0, device=device))
        self._given = 0

    @classmethod
    def given_values(cls, rows: Tensor, rows_noise_std: float, noise_std: float) -> LinearPosterior:
        """The posterior after f was observed at all of `rows`, with a noise of their own, before any other observation.

        Args:
            rows (`Tensor`):
                (m, d) feature rows.
            rows_noise_std (`float`):
                Noise of these observations; 0 conditions on f(rows) exactly.
            noise_std (`float`):
                Noise of the observations that follow.
        """
        posterior = cls(rows.shape[1], noise_std, rows.device)
        # A'(AA' + r I)^-1 A from the singular values of A: AA' would square the condition number, and for m > d,
        # repeated rows or r = 0 it is singular.
        _, scale, basis = torch.linalg.svd(rows.double(), full_matrices=False)  # (k,), (k, d)
        known = scale > scale.max() * max(rows.shape) * torch.finfo(torch.float64).eps
        share = scale[known] ** 2 / (scale[known] ** 2 + rows_noise_std**2)  # (r,)
        posterior._directions.append(share.sqrt()[:, None] * basis[known])
        posterior._given = posterior._directions.count
        return posterior

    @property
    def count(self) -> int:
        """Observations so far."""
        return self._directions.count - self._given

    @property
    def directions(self) -> Tensor:
        """All directions, those of given values first, (r + count, d) float64."""
        return self._directions[:]

    @property
    def given_directions(self) -> Tensor:
        """Those of given values, (r, d) float64."""
        return self._directions[: self._given]

    def prior_variance(self, rows: Tensor) -> Tensor:
        """See `Posterior`."""
        return Linear().diagonal(rows)

    def begin(self, rows: Tensor) -> Tensor:
        """See `Posterior`."""
        return (rows @ self.given_directions.to(rows.dtype).T).T

    def frame(self, first: int, last: int) -> CholeskyBlock:
        """See `Posterior`."""
        rows = self._directions[self._given + first : self._given + last].clone()
        return CholeskyBlock(rows, rows[:, :0], rows[:0, :0])

    def project(self, rows: Tensor, known: Tensor, frame: CholeskyBlock, cross: Tensor | None = None) -> Tensor:
        """See `Posterior`."""
        return frame.rows @ rows.T

    def latest(self, rows: Tensor, known: Tensor) -> Tensor:
        """See `Posterior`."""
        return (rows @ self.directions[-1])[None]

    def observe(self, row: Tensor) -> None:
        """See `Posterior`."""
        row, known = row.double(), self.directions
        projected = torch.addmv(row, known.T, known @ row, alpha=-1)  # (d,), the posterior covariance times the row
        pivot = math.sqrt(self.noise_variance + max(float(row @ projected), 0.0))
        torch.div(projected, pivot, out=self._directions.next())

    def forget(self, count: int) -> None:
        """See `Posterior`."""
        self._directions.count = self._given + count

    def projections(self, rows: Tensor) -> Tensor:
        """See `Posterior`."""
        return self.directions @ rows.double().T

    def variance(self, rows: Tensor) -> Tensor:
        """Posterior variance of f at each row, (B, d) -> (B,) float64, never negative."""
        rows = rows.double()
        return (self.prior_variance(rows) - (rows @ self.directions.T).square().sum(1)).clamp_min(0)

    def covariance(self, rows: Tensor, others: Tensor) -> Tensor:
        """Posterior covariance of f between two sets of rows, (B, d), (C, d) -> (B, C) float64."""
        rows, others = rows.double(), others.double()
        return rows @ others.T - (rows @ self.directions.T) @ (others @ self.directions.T).T
