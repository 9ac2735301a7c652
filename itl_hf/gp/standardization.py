"""What is done to raw feature rows before any kernel is computed: an affine map that is fitted on the pool and applied
to pool and targets.

Raw hidden states are anisotropic: one mean direction and a few dimensions carry nearly all of their norm (mean-pooled
cosines sit near 0.9). Centred and scaled to mean k(x, x) = 1, noise is in the same unit for all models; standardised by
dimension or whitened, no single dimension decides what is similar.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from itl_hf import distributed

MODES = ("scale", "dimensions", "whiten")
#: Directions that whitening keeps unless `components` is set.
NUM_WHITENED = 128
#: Rows that are computed together on a CPU.
CHUNK_ROWS = 512


@dataclass(frozen=True)
class Standardization:
    """The kind of map to fit.

    Args:
        mode (`str`):
            `"scale"`: centre, one factor for mean k(x, x) = 1. `"dimensions"`: each dimension to variance 1 / d.
            `"whiten"`: the leading principal directions, each to variance 1 / components.
        components (`int`, *optional*):
            Directions that whitening keeps; 128, or those that carry variance, when left out.
        unit (`bool`, *optional*, defaults to `False`):
            Scale every row to norm 1 afterwards, so that k(x, x) = 1 for each.
        parts (`tuple[tuple[int, float], ...]`, *optional*):
            Widths and weights of several feature spaces that stand side by side; with `"dimensions"` each then has its
            weight's share of the variance, whatever its width.
    """

    mode: Literal["scale", "dimensions", "whiten"]
    components: int | None = None
    unit: bool = False
    parts: tuple[tuple[int, float], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Standardization:
        """Parses a name: a mode, `-64` for whitening to 64 directions, `-unit` for unit norm, as in `"whiten-64-unit"`.

        Raises:
            `ValueError`: If there is no such name.
            `TypeError`: If it is no text.
        """
        if not isinstance(text, str):
            raise TypeError(f"standardize must be True, False, a name or a Standardization, got {type(text).__name__}")
        mode, *rest = text.split("-")
        unit = rest[-1:] == ["unit"]
        count = rest[: len(rest) - unit]
        has_components = mode == "whiten" and len(count) == 1 and count[0].isdigit() and int(count[0]) > 0
        if mode not in MODES or (count and not has_components):
            raise ValueError(
                f"unknown standardize {text!r}; known: {', '.join(MODES)}, whiten-64, each also with -unit behind"
            )
        return cls(mode, int(count[0]) if count else None, unit)  # type: ignore[arg-type]

    def __str__(self) -> str:
        parts = [self.mode, str(self.components) if self.components else "", "unit" if self.unit else ""]
        spaces = ", ".join(f"{width} dimensions weigh {weight:g}" for width, weight in self.parts)
        return "-".join(part for part in parts if part) + (f" ({spaces})" if spaces else "")


@dataclass(frozen=True)
class Moments:
    """Count, mean and centred second moment of rows. Merging two avoids the cancellation of sum(x^2) - n mean^2.

    Source: Chan, Golub & LeVeque (1983), eq. 2.1.

    Args:
        count (`Tensor`):
            () float64.
        mean (`Tensor`):
            (d,) float64.
        spread (`Tensor`):
            (d,) float64, centred sums of squares; (d, d) sums of products for whitening.
    """

    count: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def from_rows(cls, rows: Tensor, full: bool = False) -> Moments:
        """Computes the moments of one block, (B, d); all zeros for no rows."""
        if len(rows) > CHUNK_ROWS and not full and rows.device.type == "cpu":
            return functools.reduce(cls.merge, (cls.from_rows(part) for part in rows.split(CHUNK_ROWS)))
        rows = rows.double()
        mean = rows.mean(0) if len(rows) else rows.new_zeros(rows.shape[1])
        deviations = rows - mean
        spread = deviations.T @ deviations if full else deviations.square().sum(0)
        return cls(rows.new_full((), len(rows)), mean, spread)

    def merge(self, other: Moments) -> Moments:
        """Returns the moments of both together."""
        count = (self.count + other.count).clamp_min(1)
        shift = other.mean - self.mean
        product = torch.outer(shift, shift) if self.spread.ndim == 2 else shift.square()
        spread = self.spread + other.spread + product * (self.count * other.count / count)
        return Moments(self.count + other.count, self.mean + shift * (other.count / count), spread)


@dataclass(frozen=True)
class Preparation:
    """The map x -> (x - mean) * weights, or (x - mean) @ weights when `weights` is a matrix; then, if asked for, to
    unit norm.

    Args:
        mean (`Tensor`):
            (d,) float64.
        weights (`Tensor`):
            () or (d,) factors, or a (d, k) matrix, float64.
        unit (`bool`):
            Whether prepared rows have norm 1 (a row equal to the mean stays zero).
    """

    mean: Tensor
    weights: Tensor
    unit: bool = False

    @classmethod
    def none(cls, dimension: int) -> Preparation:
        """Returns the map that changes nothing."""
        return cls(torch.zeros(dimension, dtype=torch.float64), torch.ones((), dtype=torch.float64))

    @property
    def dimension(self) -> int:
        """Length of a prepared row."""
        return int(self.weights.shape[1]) if self.weights.ndim == 2 else len(self.mean)

    def __call__(self, rows: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Prepares (B, d) raw rows of any float type -> (B, dimension); returns the raw ones if the map changes
        nothing.
        """
        if not (self.unit or self.weights.ndim or self.mean.any()) and bool(self.weights == 1):
            return rows.to(dtype)
        mean, weights = (part.to(rows.device, dtype, non_blocking=True) for part in (self.mean, self.weights))
        prepared_rows = torch.empty(len(rows), self.dimension, dtype=dtype, device=rows.device)
        # Some rows at a time: several passes over rows in the processor's cache are faster than one pass each over
        # memory.
        step = CHUNK_ROWS if rows.device.type == "cpu" else max(len(rows), 1)
        for source, target in zip(rows.split(step), prepared_rows.split(step), strict=True):
            deviations = source.to(dtype) - mean
            if weights.ndim == 2:
                torch.matmul(deviations, weights, out=target)
            else:
                torch.mul(deviations, weights, out=target)
            if self.unit:
                target.div_(torch.linalg.vector_norm(target, dim=1, keepdim=True).clamp_min_(1e-12))
        return prepared_rows


def fit(moments: Iterable[Moments], how: Standardization, dimension: int) -> Preparation:
    """Fits the map on all rows of the pool, of all processes.

    Args:
        moments (`Iterable[Moments]`):
            Moments of this process's blocks, in row order; with sums of products for whitening.
        how (`Standardization`):
            The kind of map.
        dimension (`int`):
            d, for processes that have no blocks.

    Raises:
        `ValueError`: If all rows are equal, so that there is nothing to choose between.
    """
    full = how.mode == "whiten"
    pool_moments = _merge(moments, dimension, full)
    mean = pool_moments.mean
    variance = (pool_moments.spread.diagonal() if full else pool_moments.spread) / pool_moments.count  # (d,)
    if variance.sum().sqrt() <= 1e-12 * mean.norm():
        raise ValueError("all rows of `pool` are the same: there is nothing to choose between")
    if how.mode == "scale":
        return Preparation(mean, variance.sum().rsqrt(), how.unit)
    if how.mode == "dimensions":
        return Preparation(mean, _by_dimension(variance, how), how.unit)
    values, vectors = torch.linalg.eigh(pool_moments.spread / pool_moments.count)  # ascending
    count = min(how.components or NUM_WHITENED, int((values > values[-1] * 1e-10).sum()))
    return Preparation(mean, vectors[:, -count:] * (values[-count:] * count).rsqrt(), how.unit)


def _by_dimension(variance: Tensor, how: Standardization) -> Tensor:
    """Returns factors (d,) that give every dimension of a part the same variance, and each part its weight's share of
    1.
    """
    parts = how.parts or ((len(variance), 1.0),)
    if sum(width for width, _ in parts) != len(variance):
        raise ValueError(f"the parts {parts} do not add up to the {len(variance)} features of a row")
    total_weight = sum(weight for _, weight in parts)
    factors = []
    for part, (_, weight) in zip(variance.split([width for width, _ in parts]), parts, strict=True):
        varies = part > part.max() * 1e-12  # constant dimensions are left out
        share = weight / total_weight / varies.sum().clamp_min(1)
        factors.append(torch.where(varies, (share / part.clamp_min(1e-300)).sqrt(), 0.0))
    return torch.cat(factors)


def _merge(moments: Iterable[Moments], dimension: int, full: bool) -> Moments:
    """Merges the moments of all blocks in row order, whichever process they come from."""
    empty = Moments.from_rows(torch.zeros(0, dimension), full)
    table = [torch.cat([part.count[None], part.mean, part.spread.flatten()]) for part in moments]
    width = 1 + dimension + empty.spread.numel()
    rows = distributed.gather_rows(torch.stack(table).cpu() if table else torch.zeros(0, width, dtype=torch.float64))
    parts = [Moments(row[0], row[1 : 1 + dimension], row[1 + dimension :].view_as(empty.spread)) for row in rows]
    return functools.reduce(Moments.merge, parts)
