"""Kernels over prepared feature rows: k(X, Y) and its diagonal.

The linear kernel has finite features and takes the weight-space path; every other kernel runs through its values alone.
What a kernel needs done to raw features beforehand is `itl_hf.gp.standardization`.

Sources: Rasmussen & Williams, "Gaussian Processes for Machine Learning" (2006), chapter 4.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from torch import Tensor


class Kernel(Protocol):
    """A covariance function. Rows may be float32 or float64; results keep the precision."""

    @property
    def linear(self) -> bool:
        """Whether k(x, y) = x.y, so that the weight-space path applies."""

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """K between two sets of rows, (B, d), (C, d) -> (B, C)."""

    def diagonal(self, rows: Tensor) -> Tensor:
        """k(x, x) of each row, (B, d) -> (B,)."""

    def describe(self) -> dict[str, Any]:
        """Name and parameters, JSON types."""


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
        """See `Kernel`."""
        return rows @ others.T

    def diagonal(self, rows: Tensor) -> Tensor:
        """See `Kernel`."""
        return torch.linalg.vector_norm(
            rows, dim=1
        ).square()  # reads the rows once, where square().sum() writes them too

    def describe(self) -> dict[str, Any]:
        """See `Kernel`."""
        return {"kernel": "linear"}


class _UnitVariance:
    """Kernels with k(x, x) = 1."""

    linear = False

    def diagonal(self, rows: Tensor) -> Tensor:
        """See `Kernel`."""
        return rows.new_ones(len(rows))


@dataclass(frozen=True)
class Cosine(_UnitVariance):
    """k(x, y) = x.y / (|x| |y|); a zero row is unrelated to everything, itself excepted."""

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """See `Kernel`."""
        return torch.nn.functional.normalize(rows) @ torch.nn.functional.normalize(others).T

    def describe(self) -> dict[str, Any]:
        """See `Kernel`."""
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
        """See `Kernel`."""
        if self.on == "cosine":
            return Cosine().cross(rows, others).sub_(1).div_(self.lengthscale).exp_()
        return _squared_distance(rows, others).div_(-2 * self.lengthscale**2).exp_()

    def describe(self) -> dict[str, Any]:
        """See `Kernel`."""
        return {"kernel": "rbf", "lengthscale": self.lengthscale, "on": self.on}


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
        """See `Kernel`."""
        if self.on == "cosine":
            rows, others = torch.nn.functional.normalize(rows), torch.nn.functional.normalize(others)
        return _squared_distance(rows, others).sqrt_().div_(-self.lengthscale).exp_()

    def describe(self) -> dict[str, Any]:
        """See `Kernel`."""
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
        """See `Kernel`."""
        return torch.stack([weight * kernel.cross(rows, others) for weight, kernel in self._terms()]).sum(0)

    def diagonal(self, rows: Tensor) -> Tensor:
        """See `Kernel`."""
        return torch.stack([weight * kernel.diagonal(rows) for weight, kernel in self._terms()]).sum(0)

    def describe(self) -> dict[str, Any]:
        """See `Kernel`."""
        terms = [{"weight": float(weight), **kernel.describe()} for weight, kernel in self._terms()]
        return {"kernel": "sum", "terms": terms}


class Callable_:
    """Any function (X, Y) -> k(X, Y), or a `gpytorch` kernel, as a `Kernel`.

    Args:
        function (`Callable`):
            Takes (B, d) and (C, d), returns (B, C): a tensor, or an object with `to_dense()`.
        name (`str`, *optional*):
            What to call it in records.
    """

    linear = False

    def __init__(self, function: Callable[[Tensor, Tensor], Any], name: str | None = None) -> None:
        self.function = function
        self.name = name or getattr(function, "__name__", type(function).__name__)

    def cross(self, rows: Tensor, others: Tensor) -> Tensor:
        """See `Kernel`."""
        with torch.no_grad():
            values = self.function(rows, others)
        dense = values.to_dense() if hasattr(values, "to_dense") and not isinstance(values, Tensor) else values
        if dense.shape != (len(rows), len(others)):
            raise ValueError(
                f"kernel {self.name} returned shape {tuple(dense.shape)} for {len(rows)} and {len(others)} rows"
            )
        return dense.to(rows.dtype)

    def diagonal(self, rows: Tensor) -> Tensor:
        """See `Kernel`; one row against itself at a time would be slow, so small squares are evaluated."""
        return torch.cat([self.cross(part, part).diagonal() for part in rows.split(64)])

    def describe(self) -> dict[str, Any]:
        """See `Kernel`."""
        return {"kernel": "callable", "name": self.name}


KERNELS: dict[str, Callable[..., Kernel]] = {"linear": Linear, "cosine": Cosine, "rbf": RBF, "laplace": Laplace}


def resolve_kernel(kernel: str | Kernel | Callable[[Tensor, Tensor], Any]) -> Kernel:
    """The kernel of this name, or the object itself, or a function made into one.

    Raises:
        `ValueError`: Unknown name.
        `TypeError`: Not a kernel.
    """
    if isinstance(kernel, str):
        if kernel not in KERNELS:
            raise ValueError(f"unknown kernel {kernel!r}; known: {', '.join(sorted(KERNELS))}")
        return KERNELS[kernel]()
    if hasattr(kernel, "cross") and hasattr(kernel, "diagonal"):
        return cast("Kernel", kernel)
    if callable(kernel):
        return Callable_(kernel)
    raise TypeError(f"kernel must be a name, a Kernel or a function of two sets of rows, got {type(kernel).__name__}")


def gram_matrix(rows: Tensor, kernel: Kernel) -> Tensor:
    """Kernel matrix of rows; its diagonal is exact where `cross` loses digits or, for zero rows, means another row."""
    return kernel.cross(rows, rows).diagonal_scatter(kernel.diagonal(rows))


def _squared_distance(rows: Tensor, others: Tensor) -> Tensor:
    squares = rows.square().sum(1)[:, None] + others.square().sum(1)
    return squares.sub_(2 * rows @ others.T).clamp_min_(0)


def _check_lengthscale(lengthscale: float, on: str) -> None:
    if not (0 < lengthscale < float("inf")):
        raise ValueError(f"lengthscale must be positive and finite, got {lengthscale}")
    if on not in ("cosine", "distance"):
        raise ValueError(f"on must be 'cosine' or 'distance', got {on!r}")
