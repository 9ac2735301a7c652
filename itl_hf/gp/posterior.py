"""Gaussian posteriors over f, one observation at a time: for finite features, and for any kernel.

Both keep the posterior as a list of *projections*: functions p_1, p_2, ... of a row with

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

from itl_hf.gp.kernels import Kernel, Linear


def check_noise_std(noise_std: float) -> float:
    """The value, or a `ValueError` unless it is a positive finite number."""
    if not (math.isfinite(noise_std) and noise_std > 0):
        raise ValueError(f"noise_std must be a positive finite number, got {noise_std}")
    return noise_std


@dataclass(frozen=True)
class Frame:
    """What it takes to compute some consecutive projections of any row; stays valid when the posterior forgets them.

    Args:
        rows (`Tensor`): (b, d), directions of a linear posterior, or the observed rows of another.
        earlier (`Tensor`): (b, j), projections of the observed rows on what was there before; empty for a linear
            posterior.
        factor (`Tensor`): (b, b) lower triangular, the new part of the Cholesky factor; empty for a linear posterior.
    """

    rows: Tensor
    earlier: Tensor
    factor: Tensor

    def to(self, dtype: torch.dtype) -> Frame:
        """The same in another precision."""
        return Frame(self.rows.to(dtype), self.earlier.to(dtype), self.factor.to(dtype))


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

    def frame(self, first: int, last: int) -> Frame:
        """Observations `first` to `last` (exclusive), for `project`."""

    def project(self, rows: Tensor, known: Tensor, frame: Frame, cross: Tensor | None = None) -> Tensor:
        """New projections of each row, (B, d) -> (b, B).

        Args:
            rows (`Tensor`): (B, d).
            known (`Tensor`): (j, B), the rows' projections before `frame`; ignored by a linear posterior.
            frame (`Frame`): which observations.
            cross (`Tensor`, *optional*): (b, B), kernel between `frame.rows` and `rows`, if it is known already.
        """

    def observe(self, row: Tensor) -> None:
        """Adds an observation at `row`, (d,) float64."""

    def forget(self, count: int) -> None:
        """Drops all observations after the first `count`."""

    def projections(self, rows: Tensor) -> Tensor:
        """All projections of each row, those on given values first, (B, d) -> (r + count, B) float64."""


class _Growing:
    """Rows of a table that doubles its room when it is full: n appends copy O(n) rows, not O(n^2)."""

    def __init__(self, width: int, like: Tensor) -> None:
        self._table = like.new_zeros((0, width), dtype=torch.float64)
        self.count = 0

    def __getitem__(self, index: slice) -> Tensor:
        return self._table[: self.count][index]

    def append(self, rows: Tensor) -> None:
        needed = self.count + len(rows)
        high, wide = self._table.shape
        if needed > high or rows.shape[1] > wide:
            height = max(needed, 2 * high, 16) if needed > high else high
            width = max(rows.shape[1], 2 * wide) if rows.shape[1] > wide else wide
            room = self._table.new_zeros(height, width)
            room[: self.count, :wide] = self._table[: self.count]
            self._table = room
        self._table[self.count : needed, : rows.shape[1]] = rows
        self.count = needed


class LinearPosterior:
    """Posterior for the linear kernel: projections are inner products with directions.

    Args:
        dimension (`int`): length d of a feature row.
        noise_std (`float`): standard deviation of the observation noise, in the units of f. Positive.
        device (`torch.device`, *optional*): where the directions live.

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
        self._directions = _Growing(dimension, torch.zeros(0, device=device))
        self._given = 0

    @classmethod
    def given_values(cls, rows: Tensor, rows_noise_std: float, noise_std: float) -> LinearPosterior:
        """The posterior after f was observed at all of `rows`, with a noise of their own, before any other observation.

        Args:
            rows (`Tensor`): (m, d) feature rows.
            rows_noise_std (`float`): noise of these observations; 0 conditions on f(rows) exactly.
            noise_std (`float`): noise of the observations that follow.
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

    def prior_variance(self, rows: Tensor) -> Tensor:
        """See `Posterior`."""
        return Linear().diagonal(rows)

    def begin(self, rows: Tensor) -> Tensor:
        """See `Posterior`."""
        return self._directions[: self._given].to(rows.dtype) @ rows.T

    def frame(self, first: int, last: int) -> Frame:
        """See `Posterior`."""
        rows = self._directions[self._given + first : self._given + last].clone()
        return Frame(rows, rows.new_zeros(len(rows), 0), rows.new_zeros(0, 0))

    def project(self, rows: Tensor, known: Tensor, frame: Frame, cross: Tensor | None = None) -> Tensor:
        """See `Posterior`."""
        return frame.rows @ rows.T

    def observe(self, row: Tensor) -> None:
        """See `Posterior`."""
        row = row.double()
        projected = row - self.directions.T @ (self.directions @ row)  # (d,), the posterior covariance times the row
        variance = (row @ projected).clamp_min(0)
        self._directions.append((projected / (self.noise_variance + variance).sqrt())[None])

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


class KernelPosterior:
    """Posterior for any kernel: a row's next projections follow from its kernel with the observed rows and its earlier
    ones.

    Args:
        kernel (`Kernel`): the covariance function.
        noise_std (`float`): standard deviation of the observation noise. Positive.
        device (`torch.device`, *optional*): where the observed rows live.
    """

    needs_memory = True

    def __init__(self, kernel: Kernel, noise_std: float, device: torch.device | None = None) -> None:
        self.kernel = kernel
        self.noise_variance = check_noise_std(noise_std) ** 2
        like = torch.zeros(0, device=device)
        self._observed = _Growing(0, like)  # (count, d)
        self._factor = _Growing(
            0, like
        )  # (count, r + count): each row its projections on all before it, then its pivot
        self._given_rows, self._given_weights = torch.zeros(0, 0), torch.zeros(0, 0)

    @classmethod
    def given_values(cls, kernel: Kernel, rows: Tensor, rows_noise_std: float, noise_std: float) -> KernelPosterior:
        """As `LinearPosterior.given_values`, by the eigenvalues of the kernel matrix of `rows`."""
        posterior = cls(kernel, noise_std, rows.device)
        values, vectors = torch.linalg.eigh(kernel.cross(rows, rows))  # (m,), (m, m)
        known = values > values.max() * len(rows) * torch.finfo(torch.float64).eps
        posterior._given_rows = rows
        posterior._given_weights = (vectors[:, known] / (values[known] + rows_noise_std**2).sqrt()).T  # (r, m)
        return posterior

    @property
    def count(self) -> int:
        """Observations so far."""
        return self._observed.count

    @property
    def _given(self) -> int:
        return len(self._given_weights)

    def prior_variance(self, rows: Tensor) -> Tensor:
        """See `Posterior`."""
        return self.kernel.diagonal(rows)

    def begin(self, rows: Tensor) -> Tensor:
        """See `Posterior`."""
        if self._given == 0:
            return rows.new_zeros(0, len(rows))
        return self._given_weights.to(rows.dtype) @ self.kernel.cross(self._given_rows.to(rows.dtype), rows)

    def frame(self, first: int, last: int) -> Frame:
        """See `Posterior`."""
        start, end = self._given + first, self._given + last
        factor = self._factor[first:last]
        return Frame(self._observed[first:last].clone(), factor[:, :start].clone(), factor[:, start:end].clone())

    def project(self, rows: Tensor, known: Tensor, frame: Frame, cross: Tensor | None = None) -> Tensor:
        """See `Posterior`."""
        if cross is None:
            cross = self.kernel.cross(frame.rows, rows)  # (b, B)
        rest = torch.addmm(cross, frame.earlier, known[: frame.earlier.shape[1]], alpha=-1)
        projections: Tensor = torch.linalg.solve_triangular(frame.factor, rest, upper=False)
        return projections

    def observe(self, row: Tensor) -> None:
        """See `Posterior`."""
        row = row.double()[None]  # (1, d)
        earlier = self.begin(row)  # (r, 1)
        if self.count:
            earlier = torch.cat([earlier, self.project(row, earlier, self.frame(0, self.count))])
        variance = (self.prior_variance(row) - earlier.square().sum(0)).clamp_min(0)  # (1,)
        self._factor.append(torch.cat([earlier[:, 0], (variance + self.noise_variance).sqrt()])[None])
        self._observed.append(row)

    def forget(self, count: int) -> None:
        """See `Posterior`."""
        self._observed.count = self._factor.count = count

    def variance(self, rows: Tensor) -> Tensor:
        """Posterior variance of f at each row, (B, d) -> (B,) float64, never negative."""
        return (self.kernel.diagonal(rows.double()) - self.projections(rows).square().sum(0)).clamp_min(0)

    def covariance(self, rows: Tensor, others: Tensor) -> Tensor:
        """Posterior covariance of f between two sets of rows, (B, d), (C, d) -> (B, C) float64."""
        rows, others = rows.double(), others.double()
        return self.kernel.cross(rows, others) - self.projections(rows).T @ self.projections(others)

    def projections(self, rows: Tensor) -> Tensor:
        """See `Posterior`."""
        rows = rows.double()
        known = self.begin(rows)
        return torch.cat([known, self.project(rows, known, self.frame(0, self.count))]) if self.count else known
