"""What is done to raw feature rows before any kernel sees them: an affine map, fitted on the pool, applied to pool and
targets.

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

Standardize = Literal["scale", "dimensions", "whiten"]
MODES = ("scale", "dimensions", "whiten")


@dataclass(frozen=True)
class Moments:
    """Count, mean and centred second moment of rows, which merge without the cancellation of sum(x^2) - n mean^2.

    Source: Chan, Golub & LeVeque (1983), eq. 2.1.

    Args:
        count (`Tensor`): () float64.
        mean (`Tensor`): (d,) float64.
        spread (`Tensor`): (d,) float64, centred sums of squares; (d, d) sums of products if asked for.
    """

    count: Tensor
    mean: Tensor
    spread: Tensor

    @classmethod
    def of(cls, rows: Tensor, full: bool = False) -> Moments:
        """Moments of one block, (B, d); of no rows, all zeros."""
        rows = rows.double()
        mean = rows.mean(0) if len(rows) else rows.new_zeros(rows.shape[1])
        centred = rows - mean
        spread = centred.T @ centred if full else centred.square().sum(0)
        return cls(rows.new_tensor(float(len(rows))), mean, spread)

    def merge(self, other: Moments) -> Moments:
        """Moments of both together."""
        count = (self.count + other.count).clamp_min(1)
        shift = other.mean - self.mean
        product = torch.outer(shift, shift) if self.spread.ndim == 2 else shift.square()
        spread = self.spread + other.spread + product * (self.count * other.count / count)
        return Moments(self.count + other.count, self.mean + shift * (other.count / count), spread)


@dataclass(frozen=True)
class Preparation:
    """The map x -> (x - mean) * weights, or (x - mean) @ weights when `weights` is a matrix.

    Args:
        mean (`Tensor`): (d,) float64.
        weights (`Tensor`): () or (d,) factors, or a (d, k) matrix, float64.
        mode (`str`): how it was fitted: `"scale"`, `"dimensions"`, `"whiten"`, or `"none"`.
    """

    mean: Tensor
    weights: Tensor
    mode: str

    @classmethod
    def none(cls, dimension: int) -> Preparation:
        """Changes nothing, for features that are prepared already."""
        return cls(torch.zeros(dimension, dtype=torch.float64), torch.ones((), dtype=torch.float64), "none")

    @property
    def dimension(self) -> int:
        """Numbers in a prepared row."""
        return int(self.weights.shape[1]) if self.weights.ndim == 2 else len(self.mean)

    def __call__(self, rows: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """(B, d) raw rows of any float type -> (B, dimension) prepared rows."""
        centred = rows.to(dtype) - self.mean.to(rows.device, dtype)
        weights = self.weights.to(rows.device, dtype)
        return centred @ weights if weights.ndim == 2 else centred.mul_(weights)


def fit(moments: Iterable[Moments], mode: Standardize, components: int | None, dimension: int) -> Preparation:
    """Fits the map on all rows of the pool, over all processes.

    Args:
        moments (`Iterable[Moments]`): those of this process's blocks, in row order; with sums of products for
            whitening.
        mode (`str`): `"scale"`: centre, one factor for mean k(x, x) = 1. `"dimensions"`: each dimension to variance 1 /
            d. `"whiten"`: the leading `components` principal directions, each to variance 1 / components.
        components (`int`, *optional*): directions that whitening keeps; at most 128 and those that carry variance when
            left out.
        dimension (`int`): d, needed where a process has no blocks.

    Raises:
        `ValueError`: all rows are equal, so there is nothing to choose between.
    """
    merged = _merge(moments, dimension, mode == "whiten")
    count, mean = merged.count, merged.mean
    variance = (merged.spread.diagonal() if mode == "whiten" else merged.spread) / count  # (d,)
    if variance.sum().sqrt() <= 1e-12 * mean.norm():
        raise ValueError("all rows of `pool` are the same: there is nothing to choose between")
    if mode == "scale":
        return Preparation(mean, variance.sum().rsqrt(), mode)
    if mode == "dimensions":
        alive = variance > variance.max() * 1e-12  # a constant dimension tells nothing and is left out
        return Preparation(mean, torch.where(alive, (variance * alive.sum()).clamp_min(1e-300).rsqrt(), 0.0), mode)
    values, vectors = torch.linalg.eigh(merged.spread / count)  # ascending
    kept = min(components or 128, int((values > values[-1] * 1e-10).sum()))
    return Preparation(mean, vectors[:, -kept:] * (values[-kept:] * kept).rsqrt(), mode)


def _merge(moments: Iterable[Moments], dimension: int, full: bool) -> Moments:
    """One set of moments from those of each block, merged in row order whichever process they come from."""
    empty = Moments.of(torch.zeros(0, dimension), full)
    table = [torch.cat([part.count[None], part.mean, part.spread.flatten()]).cpu() for part in moments]
    width = 1 + dimension + empty.spread.numel()
    rows = distributed.gather_rows(torch.stack(table) if table else torch.zeros(0, width, dtype=torch.float64))
    parts = [Moments(row[0], row[1 : 1 + dimension], row[1 + dimension :].view_as(empty.spread)) for row in rows]
    return functools.reduce(Moments.merge, parts)
