"""The picks of `select_rows`, their variances and similarities, and the record of how they were made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itl_hf.gp import kernels
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import Quality, each
from itl_hf.selection.defaults import KernelSpec
from itl_hf.selection.protocol import Acquisition
from itl_hf.selection.registry import describe_acquisition
from itl_hf.selection.result.record import SelectionRecord


@dataclass(frozen=True)
class RowSelection:
    """Picked rows of a feature array.

    Args:
        indices (`np.ndarray`):
            (n,) int64 row numbers in the order picked.
        gains (`np.ndarray`):
            (n,) float64, what each pick adds to those before it: for ITL and the baselines the information about the
            targets in nats, otherwise the value of the objective, such as the variance that a pick of VTL removes.
        target_variance (`np.ndarray`):
            (n + 1, m) float64, posterior variance of f at each target after 0..n picks.
        similarity (`np.ndarray`):
            (n, m) float64, prior correlation of each pick with each target under the kernel.
        record (`SelectionRecord`):
            What was asked for and what was chosen: acquisition, kernel, noise and its rule, sizes.
        pool (`Pool`):
            The rows as they were prepared.
        gp (`GaussianProcess`):
            The Gaussian process that was used.

    Example:
        >>> from itl_hf import select_rows
        >>> picked = select_rows([[1.0, 0.0], [0.0, 1.0], [0.9, 0.1]], [[1.0, 0.0]], 2)
        >>> picked.indices.shape, picked.target_variance.shape
        ((2,), (3, 1))
    """

    indices: np.ndarray
    gains: np.ndarray
    target_variance: np.ndarray
    similarity: np.ndarray
    record: SelectionRecord
    pool: Pool = field(repr=False, compare=False)
    gp: GaussianProcess = field(repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.indices)

    def then(self, rest: RowSelection) -> RowSelection:
        """This selection and one that continued it (with `already_selected`), as one."""
        return RowSelection(
            indices=np.concatenate([self.indices, rest.indices]),
            gains=np.concatenate([self.gains, rest.gains]),
            target_variance=np.concatenate([self.target_variance, rest.target_variance[1:]]),
            similarity=np.concatenate([self.similarity, rest.similarity]),
            record=self.record,
            pool=self.pool,
            gp=self.gp,
        )


def target_variance(
    picks: Tensor, gp: GaussianProcess, observed_rows: Tensor, qualities: tuple[Quality, Quality] = (1.0, 1.0)
) -> Tensor:
    """Posterior variance of every target after 0..n picks, (n, d), (m, d) -> (n + 1, m) float64.

    `qualities` are those of the observed rows and of the picks.
    """
    posterior = gp.posterior()
    for rows, quality in zip((observed_rows, picks), qualities, strict=True):
        for row, row_quality in zip(rows, each(quality, len(rows)), strict=True):
            posterior.observe(row, row_quality)
    removed_variance = posterior.projections(gp.targets).square()  # (h + n, m)
    start = gp.kernel.diagonal(gp.targets) - removed_variance[: len(observed_rows)].sum(0)
    return torch.cat([start[None], removed_variance[len(observed_rows) :].neg()]).cumsum(0).clamp_min(0)


def correlation(rows: Tensor, gp: GaussianProcess) -> Tensor:
    """k(x, a) / sqrt(k(x, x) k(a, a)), (n, d), (m, d) -> (n, m)."""
    return kernels.correlation(gp.kernel, rows, gp.targets)


def make_record(
    acquisition: Acquisition, spec: KernelSpec, gp: GaussianProcess, pool: Pool, **entries: Any
) -> SelectionRecord:
    """The record of a selection from what it used; `entries` are further fields of `SelectionRecord`."""
    options = describe_acquisition(acquisition)
    return SelectionRecord(
        acquisition_name=acquisition.name,
        acquisition_options={key: value for key, value in options.items() if key != "name"},
        kernel_options=spec.kernel.describe(),
        kernel_rule=spec.rule,
        standardization_name=str(spec.standardization or "none"),
        noise_std=gp.noise_std,
        target_noise_std=gp.target_noise_std,
        pool_rows=pool.num_rows,
        dimension=pool.raw_dimension,
        **{"target_rows": len(gp.targets), **entries},
    )
