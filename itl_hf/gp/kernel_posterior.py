"""The posterior for any kernel: rows remember their projections on what was observed.

Source: Rasmussen & Williams (2006), eq. 2.24 and algorithm 2.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.growable_tensor import GrowableTensor
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.posterior import CholeskyBlock, check_noise_std


class KernelPosterior:
    """Posterior for any kernel: a row's next projections follow from its kernel with the observed rows and its earlier
    ones.

    Args:
        kernel (`Kernel`):
            The covariance function.
        noise_std (`float`):
            Standard deviation of the observation noise. Positive.
        device (`torch.device`, *optional*):
            Where the observed rows live.
    """

    needs_memory = True

    def __init__(self, kernel: Kernel, noise_std: float, device: torch.device | None = None) -> None:
        self.kernel = kernel
        self.noise_variance = check_noise_std(noise_std) ** 2
        like = torch.zeros(0, device=device)
        self._observed = GrowableTensor(0, like)  # (count, d)
        self._factor = GrowableTensor(0, like)  # (count, r + count): projections on all before, then the pivot
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

    def frame(self, first: int, last: int) -> CholeskyBlock:
        """See `Posterior`."""
        start, end = self._given + first, self._given + last
        factor = self._factor[first:last]
        return CholeskyBlock(
            self._observed[first:last].clone(), factor[:, :start].clone(), factor[:, start:end].clone()
        )

    def project(self, rows: Tensor, known: Tensor, frame: CholeskyBlock, cross: Tensor | None = None) -> Tensor:
        """See `Posterior`."""
        if cross is None:
            cross = self.kernel.cross(frame.rows, rows)  # (b, B)
        rest = torch.addmm(cross, frame.earlier, known[: frame.earlier.shape[1]], alpha=-1)
        projections: Tensor = torch.linalg.solve_triangular(frame.factor, rest, upper=False)
        return projections

    def latest(self, rows: Tensor, known: Tensor) -> Tensor:
        """See `Posterior`."""
        return self.project(rows, known, self.frame(self.count - 1, self.count))

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
