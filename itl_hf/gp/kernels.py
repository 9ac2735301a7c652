"""Kernels over prepared feature rows: k(X, Y) and its diagonal.

The linear kernel has finite features, so its posterior is kept in weight space. Every other kernel is used through its
values alone. `itl_hf.gp.standardization` has what is done to raw features beforehand.

Sources: Rasmussen & Williams, "Gaussian Processes for Machine Learning" (2006), chapter 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor

#: Squared distances below this share of the squared norms are computed from the rows' differences, so many at a time.
CLOSE, PAIRS_AT_ONCE = 1e-3, 4096


class Kernel(Protocol):
    """A covariance function. Rows may be float32 or float64; results keep the precision."""

    @property
    def linear(self) -> bool:
        """Whether k(x, y) = x.y, so that the posterior is kept in weight space."""

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes `k` between two sets of rows, (B, d), (C, d) -> (B, C)."""

    def diagonal(self, rows: Tensor) -> Tensor:
        """Computes k(x, x) of each row, (B, d) -> (B,)."""

    def describe(self) -> dict[str, Any]:
        """Returns name and parameters, JSON types."""


@dataclass(frozen=True)
class Linear:
    """k(x, y) = x.y.

    Example:
        >>> Linear().cross(torch.eye(2), torch.ones(1, 2))
        tensor([[1.],
                [1.]])
    """

    linear = True

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes the kernel, (B, d), (C, d) -> (B, C)."""
        return rows @ others.T

    def diagonal(self, rows: Tensor) -> Tensor:
        """Computes k(x, x) of each row, (B, d) -> (B,)."""
        # Reads the rows once, where square().sum() also writes their squares.
        return torch.linalg.vector_norm(rows, dim=1).square()

    def describe(self) -> dict[str, Any]:
        """Returns name and parameters, JSON types."""
        return {"kernel": "linear"}


class _UnitVariance:
    """Base class of kernels with k(x, x) = 1."""

    linear = False

    def diagonal(self, rows: Tensor) -> Tensor:
        """Computes k(x, x) of each row, (B, d) -> (B,)."""
        return rows.new_ones(len(rows))


@dataclass(frozen=True)
class Cosine(_UnitVariance):
    """k(x, y) = x.y / (|x| |y|); a zero row is unrelated to everything, itself excepted."""

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes the kernel, (B, d), (C, d) -> (B, C)."""
        return unit_rows(rows) @ unit_rows(others).T

    def describe(self) -> dict[str, Any]:
        """Returns name and parameters, JSON types."""
        return {"kernel": "cosine"}


@dataclass(frozen=True)
class RBF(_UnitVariance):
    """k(x, y) = exp((cos(x, y) - 1) / lengthscale), or exp(-|x - y|^2 / (2 lengthscale^2)) with `on="distance"`.

    The first form is the second on unit-norm rows with lengthscale^2 in place of lengthscale: unrelated rows have k
    near 0, near-duplicates k near 1.

    Args:
        lengthscale (`float`, *optional*, defaults to 0.4):
            How fast the correlation falls. Positive.
        on (`str`, *optional*, defaults to `"cosine"`):
            `"cosine"` or `"distance"`.
    """

    lengthscale: float = 0.4
    on: str = "cosine"

    def __post_init__(self) -> None:
        _check_lengthscale(self.lengthscale, self.on)

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes the kernel, (B, d), (C, d) -> (B, C)."""
        if self.on == "cosine":
            rows, others = unit_rows(rows), unit_rows(others)
            return (rows @ others.T).sub_(1).div_(self.lengthscale).exp_()
        return _squared_distance(rows, others).div_(-2 * self.lengthscale**2).exp_()

    def describe(self) -> dict[str, Any]:
        """Returns name and parameters, JSON types."""
        return {"kernel": "rbf", "lengthscale": self.lengthscale, "on": self.on}


@dataclass(frozen=True)
class ExponentialCosine(_UnitVariance):
    """k(x, y) = (exp(cos(x, y) / lengthscale) - 1) / (exp(1 / lengthscale) - 1): `RBF` on the cosine without the
    constant exp(-1 / lengthscale) that its unrelated rows have in common.

    Orthogonal rows have k = 0, equal rows k = 1. It is positive definite: all coefficients in the power series of the
    exponential are positive, and products of positive definite kernels are positive definite (Rasmussen & Williams,
    2006, section 4.2.4).

    Args:
        lengthscale (`float`, *optional*, defaults to 0.6):
            How fast the correlation falls. Positive.

    Example:
        >>> ExponentialCosine(0.6).cross(torch.eye(2), torch.eye(2))
        tensor([[1., 0.],
                [0., 1.]])
    """

    lengthscale: float = 0.6

    def __post_init__(self) -> None:
        _check_lengthscale(self.lengthscale)

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes the kernel, (B, d), (C, d) -> (B, C)."""
        return self.of_cosines(unit_rows(rows) @ unit_rows(others).T)

    def of_cosines(self, cosines: Tensor) -> Tensor:
        """Computes the kernel from cosines of any shape, in place."""
        return cosines.div_(self.lengthscale).expm1_().div_(math.expm1(1 / self.lengthscale))

    def describe(self) -> dict[str, Any]:
        """Returns name and parameters, JSON types."""
        return {"kernel": "exponential_cosine", "lengthscale": self.lengthscale}


@dataclass(frozen=True)
class Laplace(_UnitVariance):
    """k(x, y) = exp(-|x - y| / lengthscale), Euclidean distance, of unit-norm rows with `on="cosine"`.

    Args:
        lengthscale (`float`, *optional*, defaults to 1.0):
            How fast the correlation falls. Positive.
        on (`str`, *optional*, defaults to `"cosine"`):
            `"cosine"` or `"distance"`.
    """

    lengthscale: float = 1.0
    on: str = "cosine"

    def __post_init__(self) -> None:
        _check_lengthscale(self.lengthscale, self.on)

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes the kernel, (B, d), (C, d) -> (B, C)."""
        if self.on == "cosine":
            rows, others = unit_rows(rows), unit_rows(others)
        return _squared_distance(rows, others).sqrt_().div_(-self.lengthscale).exp_()

    def describe(self) -> dict[str, Any]:
        """Returns name and parameters, JSON types."""
        return {"kernel": "laplace", "lengthscale": self.lengthscale, "on": self.on}


@dataclass(frozen=True)
class Sum:
    """k = sum of weight * kernel: f is the sum of independent functions.

    Args:
        kernels (`Sequence[Kernel]`):
            The terms.
        weights (`Sequence[float]`, *optional*):
            One positive number for each term; 1 when left out.
    """

    kernels: Sequence[Kernel]
    weights: Sequence[float] = ()
    linear = False

    def __post_init__(self) -> None:
        if not self.kernels or (self.weights and len(self.weights) != len(self.kernels)):
            raise ValueError("Sum needs at least one kernel, and as many weights as kernels when weights are given")
        if any(weight <= 0 for weight in self.weights):
            raise ValueError(f"weights must be positive, got {list(self.weights)}")

    def _terms(self) -> list[tuple[float, Kernel]]:
        return list(zip(self.weights or [1.0] * len(self.kernels), self.kernels, strict=True))

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes the kernel, (B, d), (C, d) -> (B, C)."""
        return torch.stack([weight * kernel.cross(rows, others) for weight, kernel in self._terms()]).sum(0)

    def diagonal(self, rows: Tensor) -> Tensor:
        """Computes k(x, x) of each row, (B, d) -> (B,)."""
        return torch.stack([weight * kernel.diagonal(rows) for weight, kernel in self._terms()]).sum(0)

    def describe(self) -> dict[str, Any]:
        """Returns name and parameters, JSON types."""
        terms = [{"weight": float(weight), **kernel.describe()} for weight, kernel in self._terms()]
        return {"kernel": "sum", "terms": terms}


class Callable_:
    """Any function (X, Y) -> k(X, Y), or a `gpytorch` kernel, as a `Kernel`.

    Args:
        function (`Callable`):
            Takes (B, d) and (C, d), returns (B, C): a tensor, or an object with `to_dense()`.
        name (`str`, *optional*):
            Name of the kernel in records.
    """

    linear = False

    def __init__(self, function: Callable[[Tensor, Tensor], Any], name: str | None = None) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes the kernel, (B, d), (C, d) -> (B, C)."""
        with torch.no_grad():
            values = self.function(rows, others)
        dense = values.to_dense() if hasattr(values, "to_dense") and not isinstance(values, Tensor) else values
        if dense.shape != (len(rows), len(others)):
            raise ValueError(
                f"kernel {self.name} returned shape {tuple(dense.shape)} for {len(rows)} and {len(others)} rows"
            )
        return dense.to(rows.dtype)

    def diagonal(self, rows: Tensor) -> Tensor:
        """Computes small blocks of the kernel matrix: one row against itself at a time would be slow."""
        return torch.cat([self.cross(part, part).diagonal() for part in rows.split(64)])

    def describe(self) -> dict[str, Any]:
        """Returns name and parameters, JSON types."""
        return {"kernel": "callable", "name": self.name}


KERNELS: dict[str, Callable[..., Kernel]] = {
    "linear": Linear,
    "cosine": Cosine,
    "rbf": RBF,
    "exponential_cosine": ExponentialCosine,
    "laplace": Laplace,
}


def correlation(kernel: Kernel, rows: Tensor, others: Tensor) -> Tensor:
    """Computes k(x, y) / sqrt(k(x, x) k(y, y)), (B, d), (C, d) -> (B, C); 0 where a row has no variance."""
    scale = torch.outer(kernel.diagonal(rows), kernel.diagonal(others)).sqrt()
    return kernel.cross(rows, others) / scale.clamp_min(torch.finfo(torch.float64).tiny)


def resolve_kernel(kernel: str | Kernel | Callable[[Tensor, Tensor], Any]) -> Kernel:
    """Returns the kernel of this name, the object itself, or a function as a `Kernel`.

    Raises:
        `ValueError`: If the name is unknown.
        `TypeError`: If it is not a kernel.
    """
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            raise ValueError(f"unknown kernel {kernel!r}; known: {', '.join(sorted(KERNELS))}")
        return KERNELS[kernel]()
    if isinstance(kernel, type):
        raise TypeError(f"kernel is the class {kernel.__name__}: pass an object of it, {kernel.__name__}(...)")
    if hasattr(kernel, "cross") and hasattr(kernel, "diagonal"):
        return cast("Kernel", kernel)
    if callable(kernel):
        return Callable_(kernel)
    raise TypeError(f"kernel must be a name, a Kernel or a function of two sets of rows, got {type(kernel).__name__}")


def gram_matrix(rows: Tensor, kernel: Kernel) -> Tensor:
    """Computes the kernel matrix of rows with an exact diagonal (that of `cross` is 0 for zero rows)."""
    return kernel.cross(rows, rows).diagonal_scatter(kernel.diagonal(rows))


def unit_rows(rows: Tensor) -> Tensor:
    """Scales rows to norm 1, (..., d); rows of zeros stay zero."""
    return torch.nn.functional.normalize(rows, dim=-1, eps=torch.finfo(rows.dtype).tiny)


def _squared_distance(rows: Tensor, others: Tensor) -> Tensor:
    squares = rows.square().sum(1)[:, None] + others.square().sum(1)
    distances = squares - 2 * rows @ others.T
    # The difference of large numbers has lost the digits of a small distance.
    row, other = (distances < CLOSE * squares).nonzero(as_tuple=True)
    for i, j in zip(row.split(PAIRS_AT_ONCE), other.split(PAIRS_AT_ONCE), strict=True):
        distances[i, j] = (rows[i] - others[j]).square_().sum(1)
    return distances.clamp_min_(0)


def _check_lengthscale(lengthscale: float, on: str = "cosine") -> None:
    if not (0 < lengthscale < float("inf")):
        raise ValueError(f"lengthscale must be positive and finite, got {lengthscale}")
    if on not in ("cosine", "distance"):
        raise ValueError(f"on must be 'cosine' or 'distance', got {on!r}")
