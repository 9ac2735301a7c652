"""Refuses kernels that are NaN or infinite for some pair of rows, and says for which."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from itl_hf.gp.kernels import Kernel

#: Says which row a position is, such as "target 3".
RowName = Callable[[int], str]


def target_names(first: int = 0) -> RowName:
    """Returns the names of targets from the target of this number on."""
    return lambda position: f"target {first + position}"


def pool_row_names(numbers: Tensor) -> RowName:
    """Returns the names of rows of the pool with these row numbers, (B,)."""
    return lambda position: f"row {int(numbers[position])} of the pool"


def check_finite(values: Tensor, kernel: Kernel, row_name: RowName, other_name: RowName) -> None:
    """Raises `ValueError` that names a pair of rows if the kernel between them, (B, C), is not finite.

    Example:
        >>> from itl_hf.gp.kernels import Cosine
        >>> check_finite(torch.eye(2), Cosine(), target_names(), target_names())
    """
    is_bad = ~torch.isfinite(values)
    if not bool(is_bad.any()):
        return
    row, other = is_bad.nonzero()[0].tolist()
    raise ValueError(
        f"the kernel {kernel_name(kernel)} is {float(values[row, other])} for {row_name(row)} and {other_name(other)}: "
        "nothing can be selected with it. Mend the kernel, leave out the row, or scale the features "
        "(standardize='scale')."
    )


#: Difference between k(a, b) and k(b, a) that comes from rounding, relative to the largest value.
_ROUNDING = 1e-6


def check_symmetric(gram: Tensor, kernel: Kernel, row_name: RowName) -> None:
    """Raises `ValueError` that names a pair of rows if their kernel matrix, (B, B), is not that of a covariance.

    A covariance is symmetric, and of a row with itself not negative.

    Example:
        >>> from itl_hf.gp.kernels import Cosine
        >>> check_symmetric(torch.eye(2), Cosine(), target_names())
    """
    largest = float(gram.abs().max()) if gram.numel() else 0.0
    is_bad = (gram - gram.mT).abs() > _ROUNDING * largest
    is_bad |= torch.diag(gram.diagonal() < -_ROUNDING * largest)
    if not bool(is_bad.any()):
        return
    row, other = is_bad.nonzero()[0].tolist()
    values = f"{float(gram[row, other]):.4g} for {row_name(row)} and {row_name(other)}"
    values += "" if row == other else f", and {float(gram[other, row]):.4g} for the same two the other way round"
    raise ValueError(
        f"the kernel {kernel_name(kernel)} is no covariance: it is {values}. Give a function that is symmetric and "
        "positive semi-definite"
    )


def kernel_name(kernel: Kernel) -> str:
    """Returns the kernel's name, of a function also that of the function."""
    description = kernel.describe()
    return str(description.get("name", description["kernel"]))


def check_rows(kernel: Kernel, rows: Tensor, row_name: RowName, others: Tensor, other_name: RowName) -> None:
    """Computes the kernel of rows with others, (B, d), (C, d) float64, and of each row with itself, and raises
    `ValueError` that names the first pair for which it is not finite.
    """
    check_finite(kernel.diagonal(rows)[:, None], kernel, row_name, lambda _: "itself")
    check_finite(kernel.cross(rows, others), kernel, row_name, other_name)
