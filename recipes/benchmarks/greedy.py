"""Greedy ITL for sweeps: many settings on one small pool, in float32.

The search of the package is made for one selection from a large pool. A grid of noises and target sets over a few
thousand rows is faster if all runs share the pass over the pool. `select_rows` remains the reference: the rows of the
sweep for the default settings come from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Runs with other kernels choose from this many rows nearest to any target. Rows further away are of other topics.
NEAREST = 2048


def linear_itl(rows: Tensor, targets: Sequence[Tensor], variances: Sequence[float], num_examples: int) -> Tensor:
    """Runs ITL with k(x, y) = x.y for several pairs of targets and noise variance at once.

    Args:
        rows (`Tensor`):
            (N, d) prepared pool rows.
        targets (`Sequence[Tensor]`):
            R matrices (m, d) of prepared targets.
        variances (`Sequence[float]`):
            R noise variances, of picks and targets alike.
        num_examples (`int`):
            Number of picks.

    Returns:
        `Tensor`: (R, num_examples) row numbers in the order picked.
    """
    runs, most = len(targets), max(map(len, targets))
    noise = torch.tensor(variances)  # (R,)
    directions = torch.zeros(
        2, runs, most + num_examples, rows.shape[1]
    )  # 0: of the picks alone, 1: of the targets and picks
    for run, anchors in enumerate(targets):
        gram = anchors.double() @ anchors.double().T
        factor = torch.linalg.cholesky(gram + variances[run] * torch.eye(len(anchors), dtype=torch.float64))
        directions[1, run, : len(anchors)] = torch.linalg.solve_triangular(
            factor, anchors.double(), upper=False
        ).float()
    start = rows.square().sum(1).repeat(2, runs, 1)  # (2, R, N): s and c
    for run in range(runs):
        start[1, run] -= (directions[1, run, :most] @ rows.T).square().sum(0)
    picks, free, all_runs = torch.zeros(runs, num_examples, dtype=torch.long), start[0] > -1, torch.arange(runs)
    for step in range(num_examples):
        earlier_directions = directions[:, :, : most + step]
        score = (start[0] - start[1]).clamp_min(0) / (start[1].clamp_min(0) + noise[:, None])
        best = score.masked_fill(~free, -1).argmax(1)  # (R,)
        picks[:, step] = best
        free[all_runs, best] = False
        row = rows[best].expand(2, -1, -1)[..., None]  # (2, R, d, 1)
        left = row - earlier_directions.transpose(2, 3) @ (earlier_directions @ row)
        variance = (row * left).sum((2, 3)).clamp_min(0)  # (2, R)
        direction = left[..., 0] / (variance + noise).sqrt()[..., None]  # (2, R, d)
        directions[:, :, most + step] = direction
        start -= (direction @ rows.T).square()
    return picks


def nearest_rows(cosines: Tensor, count: int = NEAREST) -> Tensor:
    """Returns the ascending row numbers of the `count` rows with the largest cosine, (N, m), with any target."""
    closest = cosines.max(1).values
    return closest.topk(min(count, len(closest))).indices.sort().values


def kernel_itl(pool: Tensor, cross: Tensor, targets: Tensor, variance: float, num_examples: int) -> Tensor:
    """Runs ITL with any kernel with k(x, x) = 1, from the kernel's values.

    Args:
        pool (`Tensor`):
            (N, N) kernel of the pool's rows.
        cross (`Tensor`):
            (m, N) kernel of targets and pool rows.
        targets (`Tensor`):
            (m, m) kernel of the targets.
        variance (`float`):
            Noise variance, of picks and targets alike.
        num_examples (`int`):
            Number of picks.

    Returns:
        `Tensor`: (num_examples,) row numbers in the order picked.
    """
    count = len(targets)
    factor = torch.linalg.cholesky(targets.double() + variance * torch.eye(count, dtype=torch.float64))
    columns_without_targets = torch.zeros(num_examples, pool.shape[1])
    columns_with_targets = torch.zeros(count + num_examples, pool.shape[1])
    columns_with_targets[:count] = torch.linalg.solve_triangular(factor, cross.double(), upper=False).float()
    first, second = torch.ones(pool.shape[1]), 1 - columns_with_targets[:count].square().sum(0)  # s and c
    picks, is_picked = torch.zeros(num_examples, dtype=torch.long), torch.zeros(pool.shape[1], dtype=torch.bool)
    for step in range(num_examples):
        score = (first - second).clamp_min(0) / (second.clamp_min(0) + variance)
        best = int(score.masked_fill(is_picked, -1).argmax())
        picks[step], is_picked[best] = best, True
        for columns, size, left in (
            (columns_without_targets, step, first),
            (columns_with_targets, count + step, second),
        ):
            column = pool[best] - columns[:size, best] @ columns[:size]
            column /= (left[best].clamp_min(0) + variance).sqrt()
            columns[size] = column
            left -= column.square()
    return picks
