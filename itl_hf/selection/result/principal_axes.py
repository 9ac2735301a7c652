"""The two directions of largest variance of some rows of a pool, by block power iteration.

Each process multiplies with its own rows, and d x 8 numbers are summed over processes in each iteration, so that no row
is sent. Source: Halko, Martinsson & Tropp, "Finding structure with randomness" (2011), algorithm 4.4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool

#: Directions that are iterated, more than the two that are returned, so that these are found in fewer iterations.
DIRECTIONS = 8
ITERATIONS = 5


def principal_axes(pool: Pool, numbers: list[int]) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the mean of these rows (d,), their first two principal directions (d, 2) and shares of variance (2,).

    Collective: all processes must ask for the same rows. The sign of each direction is fixed, so that equal features
    always give the same map.

    Args:
        pool (`Pool`):
            Prepared rows.
        numbers (`list[int]`):
            Row numbers, at least one.

    Example:
        >>> pool = Pool(torch.tensor([[0.0, 0.0], [2.0, 1.0], [4.0, 2.0]]))
        >>> centre, axes, shares = principal_axes(pool, [0, 1, 2])
        >>> centre.tolist(), shares.round(decimals=6).tolist()
        ([2.0, 1.0], [1.0, 0.0])
    """
    own_numbers = [numbers[position] for position in pool.own_positions(numbers)]
    rows = pool.own_rows(own_numbers).cpu() if own_numbers else torch.zeros(0, pool.dimension, dtype=torch.float64)
    centre = distributed.sum_over_processes(rows.sum(0)) / len(numbers)
    centred = rows - centre
    total = distributed.sum_over_processes(centred.square().sum())
    width = min(DIRECTIONS, pool.dimension, len(numbers))
    basis = torch.randn(pool.dimension, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for _ in range(ITERATIONS):
        basis, _ = torch.linalg.qr(distributed.sum_over_processes(centred.T @ (centred @ basis)))
    scores = centred @ basis
    variances, rotation = torch.linalg.eigh(distributed.sum_over_processes(scores.T @ scores))  # ascending
    # One-dimensional features have a map, too.
    missing = (0, max(0, 2 - width))
    axes = torch.nn.functional.pad((basis @ rotation).flip(1), missing)[:, :2]
    shares = torch.nn.functional.pad(variances.flip(0).clamp_min(0), missing)[:2] / total.clamp_min(1e-300)
    signs = axes.gather(0, axes.abs().argmax(0, keepdim=True)).sign()
    return centre, distributed.broadcast_from_first(axes * torch.where(signs == 0, 1.0, signs)), shares
