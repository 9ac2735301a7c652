"""Finds the pair of rows for which a kernel is not finite, after a search has met a number that is not.

Every statistic follows from the kernel between rows, targets and picks. One NaN among these makes statistics NaN, and
comparisons with NaN are false: the search would go on with wrong picks.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.finite_kernel import check_rows, pool_row_names, target_names
from itl_hf.gp.gaussian_process import GaussianProcess

#: Rows whose kernel values are held at a time.
ROWS_AT_ONCE = 1024


def refuse_non_finite(
    gp: GaussianProcess, rows: Tensor, numbers: Tensor, picks: Tensor, pick_numbers: Tensor
) -> ValueError:
    """Raises `ValueError` that names a pair among the rows, the targets and the picks; returns another if the kernel is
    finite between all of them.

    Args:
        gp (`GaussianProcess`):
            Kernel and targets.
        rows (`Tensor`):
            (B, d) float64 rows of the pool.
        numbers (`Tensor`):
            (B,) their row numbers.
        picks (`Tensor`):
            (n, d) float64.
        pick_numbers (`Tensor`):
            (n,) their row numbers.
    """
    for part, part_numbers in zip(rows.split(ROWS_AT_ONCE), numbers.split(ROWS_AT_ONCE), strict=True):
        check_rows(gp.kernel, part, pool_row_names(part_numbers), gp.targets, target_names())
        check_rows(gp.kernel, part, pool_row_names(part_numbers), picks, pool_row_names(pick_numbers))
    check_rows(gp.kernel, picks, pool_row_names(pick_numbers), gp.targets, target_names())
    return ValueError(
        "a number became NaN or infinite during the selection: features or noise are too large or too small for 64-bit "
        "numbers. Scale the features (standardize='scale') and leave noise_std at its default."
    )


def is_finite(tensors: list[Tensor]) -> bool:
    """Whether all numbers are."""
    return not tensors or bool(torch.stack([torch.isfinite(tensor).all() for tensor in tensors]).all())
