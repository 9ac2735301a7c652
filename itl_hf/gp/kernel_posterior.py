"""The posterior for any kernel: a row's new projections are computed from its earlier ones, which the caller keeps.

Source: Rasmussen & Williams (2006), eq. 2.24 and algorithm 2.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.finite_kernel import check_finite, check_symmetric, target_names
from itl_hf.gp.growable_tensor import GrowableTensor
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.many_targets import Pivots, given_weights
from itl_hf.gp.posterior import CholeskyBlock, check_noise_std
from itl_hf.gp.quality import Quality, scale_gram, scale_rows

#: The eigenvalues of a larger Gram matrix take seconds; where its rows are noisy, a Cholesky factor does as well.
MOST_DECOMPOSED = 1000


class KernelPosterior:
    """Posterior for any kernel: a row's new projections follow from its kernel with the observed rows and from its
    earlier projections.

    Args:
        kernel (`Kernel`):
            The covariance function.
        noise_std (`float`):
            Standard deviation of the observation noise. Positive.
        device (`torch.device`, *optional*):
            Device of the observed rows.
    """

    needs_projection_cache = True
    given_share = 0.0

    def __init__(self, kernel: Kernel, noise_std: float, device: torch.device | None = None) -> None:
        self.kernel = kernel
        self.noise_variance = check_noise_std(noise_std) ** 2
        like = torch.zeros(0, device=device)
        self.num_observations = 0
        self._observed_rows = GrowableTensor(0, like)  # (n, d)
        self._factor = GrowableTensor(0, like)  # (n, r + n): projections on everything before, then the pivot
        self._given_rows, self._given_weights = torch.zeros(0, 0), torch.zeros(0, 0)

    @classmethod
    def given_values(
        cls, kernel: Kernel, rows: Tensor, rows_noise_std: float, noise_std: float, weights: Tensor | None = None
    ) -> KernelPosterior:
        """Builds the posterior that is given the values of f at `rows`, from the eigenvalues of their kernel matrix.

        Args:
            kernel (`Kernel`):
                The covariance function.
            rows (`Tensor`):
                (m, d) feature rows.
            rows_noise_std (`float`):
                Noise of these observations; 0 conditions on f(rows) exactly.
            noise_std (`float`):
                Noise of the observations that follow.
            weights (`Tensor`, *optional*):
                (m,), how often each row was observed; `itl_hf.gp.quality`.
        """
        posterior = cls(kernel, noise_std, rows.device)
        gram = kernel.cross(rows, rows)  # (m, m)
        check_finite(gram, kernel, target_names(), target_names())
        check_symmetric(gram, kernel, target_names())
        gram = scale_gram(gram, weights)
        if rows_noise_std > 0 and len(rows) > MOST_DECOMPOSED:
            noisy_gram = gram + rows_noise_std**2 * torch.eye(len(gram)).to(gram)
            factor, error = torch.linalg.cholesky_ex(noisy_gram)
            if not error:
                return posterior._set_given_values(rows, factor, weights, gram.trace(), rows_noise_std)
        values, vectors = torch.linalg.eigh(gram)  # (m,), (m, m)
        nonzero = values > values.max() * len(rows) * torch.finfo(torch.float64).eps
        posterior._given_rows = rows
        weights_of_values = vectors[:, nonzero] / (values[nonzero] + rows_noise_std**2).sqrt()  # (m, r)
        posterior.given_share = float(values[-1] / (values[-1] + rows_noise_std**2)) if len(values) else 0.0
        posterior._given_weights = scale_rows(weights_of_values, weights).T  # (r, m)
        return posterior

    def _set_given_values(
        self, rows: Tensor, factor: Tensor, weights: Tensor | None, trace: Tensor, rows_noise_std: float
    ) -> KernelPosterior:
        """Takes the values at rows as given, with the Cholesky factor of their noisy Gram matrix, (m, m)."""
        self._given_rows = rows
        scale = torch.ones(len(rows)).to(rows) if weights is None else weights.sqrt().to(rows)
        self._given_weights = torch.linalg.solve_triangular(factor, scale.diag(), upper=False)
        self.given_share = float(trace / (trace + rows_noise_std**2))
        return self

    @classmethod
    def given_pivots(
        cls, kernel: Kernel, pivots: Pivots, rows_noise_std: float, noise_std: float, weights: Tensor | None = None
    ) -> KernelPosterior:
        """Builds the posterior that is given the values of f at many rows, from their pivots; see `given_values`."""
        posterior = cls(kernel, noise_std, pivots.rows.device)
        posterior._given_rows = pivots.rows
        posterior._given_weights, posterior.given_share = given_weights(pivots, rows_noise_std**2, weights)
        return posterior

    def given_projections(self, rows: Tensor) -> Tensor:
        """Computes the projections on the given values, (B, d) -> (r, B)."""
        if len(self._given_weights) == 0:
            return rows.new_zeros(0, len(rows))
        return self._given_weights.to(rows.dtype) @ self.kernel.cross(self._given_rows.to(rows.dtype), rows)

    def cholesky_block(self, first: int, last: int) -> CholeskyBlock:
        """Returns observations `first` to `last` (exclusive), for `project`."""
        start, end = len(self._given_weights) + first, len(self._given_weights) + last
        factor = self._factor[first:last]
        rows = self._observed_rows[first:last].clone()
        return CholeskyBlock(rows, factor[:, :start].clone(), factor[:, start:end].clone())

    def project(self, rows: Tensor, earlier: Tensor, block: CholeskyBlock, cross: Tensor | None = None) -> Tensor:
        """Computes new projections of each row by forward substitution, (B, d) -> (b, B); see `Posterior.project`."""
        if cross is None:
            cross = self.kernel.cross(block.rows, rows)  # (b, B)
        posterior_cov = torch.addmm(cross, block.earlier, earlier[: block.earlier.shape[1]], alpha=-1)
        projections: Tensor = torch.linalg.solve_triangular(block.factor, posterior_cov, upper=False)
        return projections

    def last_projection(self, rows: Tensor, earlier: Tensor) -> Tensor:
        """Computes each row's projection on the last observation, (B, d) -> (1, B)."""
        return self.project(rows, earlier, self.cholesky_block(self.num_observations - 1, self.num_observations))

    def observe(self, row: Tensor, quality: Quality = 1.0) -> None:
        """Adds an observation at `row`, (d,), whose noise variance is `noise_variance / quality`."""
        row = row.double()[None]  # (1, d)
        projections = self.projections(row)  # (r + n, 1)
        variance = (self.kernel.diagonal(row) - projections.square().sum(0)).clamp_min(0)  # (1,)
        self._factor.append(torch.cat([projections[:, 0], (variance + self.noise_variance / quality).sqrt()])[None])
        self._observed_rows.append(row)
        self.num_observations += 1

    def truncate(self, num_observations: int) -> None:
        """Drops all observations after the first `num_observations`."""
        self.num_observations = self._observed_rows.length = self._factor.length = num_observations

    def variance(self, rows: Tensor) -> Tensor:
        """Computes the posterior variance of f at each row, (B, d) -> (B,) float64, never negative."""
        return (self.kernel.diagonal(rows.double()) - self.projections(rows).square().sum(0)).clamp_min(0)

    def covariance(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes the posterior covariance of f between two sets of rows, (B, d), (C, d) -> (B, C) float64."""
        rows, others = rows.double(), others.double()
        return self.kernel.cross(rows, others) - self.projections(rows).T @ self.projections(others)

    def projections(self, rows: Tensor) -> Tensor:
        """Computes all projections of each row, those on given values first, (B, d) -> (r + n, B) float64."""
        rows = rows.double()
        first = self.given_projections(rows)
        if self.num_observations == 0:
            return first
        return torch.cat([first, self.project(rows, first, self.cholesky_block(0, self.num_observations))])
