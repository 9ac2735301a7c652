"""Kernels over feature rows. One so far: the linear kernel k(x, y) = phi(x).phi(y) on standardised features.

Raw hidden states are anisotropic: one mean direction carries nearly all of their norm (mean-pooled cosines sit near
0.9), so every kernel works on features that were centred over the pool and scaled to mean k(x, x) = 1. Noise is then in
the same unit for all models.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Standardization:
    """The affine map x -> (x - mean) / scale, fitted on the pool and applied to pool and targets alike.

    Args:
        mean (`Tensor`): (d,) float64, the pool's mean row.
        scale (`float`): root mean square distance of the pool's rows from `mean`.
    """

    mean: Tensor
    scale: float

    @classmethod
    def identity(cls, dimension: int) -> Standardization:
        """The map that changes nothing, for features that are already prepared."""
        return cls(torch.zeros(dimension, dtype=torch.float64), 1.0)

    @classmethod
    def fit(cls, blocks: Iterable[Tensor]) -> Standardization:
        """Mean and scale over all blocks of rows, in float64 and in the order given.

        Args:
            blocks (`Iterable[Tensor]`): blocks (B, d) of the pool; read once, so a generator over a memory map will do.

        Raises:
            `ValueError`: all rows are equal, so there is nothing to choose between.
        """
        count, mean, spread = 0, torch.zeros(()), torch.zeros(())
        for block in blocks:
            rows = block.double()
            block_mean = rows.mean(0)
            # Chan, Golub & LeVeque (1983): merging centred sums avoids the cancellation of sum(x^2) - n mean^2.
            shift = block_mean - mean
            spread = (
                spread
                + (rows - block_mean).square().sum()
                + shift.square().sum() * count * len(rows) / (count + len(rows))
            )
            mean = mean + shift * len(rows) / (count + len(rows))
            count += len(rows)
        scale = (spread / count).sqrt().item()
        if scale <= 1e-12 * mean.norm().item():
            raise ValueError("all rows of `pool` are the same: there is nothing to choose between")
        return cls(mean, scale)

    def __call__(self, rows: Tensor) -> Tensor:
        """(B, d) raw rows -> (B, d) float64 prepared rows."""
        return (rows.double() - self.mean) / self.scale
