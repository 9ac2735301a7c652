"""How near the pool comes to each target: its largest prior correlations with any rows, and which rows these are.

`AttainableVariance` says what the numbers mean. Every row of the pool is compared, in one pass.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.memoization import once_for_kernel
from itl_hf.gp.pool import Pool

#: Evenly spaced rows of the pool by which `usual_reach` is measured, and its quantile.
PROBES = 128
USUAL_QUANTILE = 0.05
_TARGETS_AT_ONCE = 1024


def target_reach(pool: Pool, gp: GaussianProcess, count: int) -> tuple[Tensor, Tensor, float]:
    """Returns each target's largest correlation with any row, (m,) float64, the numbers of its nearest rows, (k, m),
    and the usual reach of the pool's own rows.

    Collective: under `torchrun` all processes must call it.
    """
    best, indices = nearest_rows(pool, gp.targets, gp.kernel, count)
    usual_reach = once_for_kernel(pool, gp.kernel, "usual reach", lambda: _usual_reach(pool, gp.kernel))
    return best[0].double().clamp(-1, 1), indices, usual_reach


def _usual_reach(pool: Pool, kernel: Kernel) -> float:
    """Returns the correlation that 19 in 20 rows of the pool have with another row, by a sample. Collective."""
    best, _ = nearest_rows(pool, pool.rows(pool.spaced_rows(PROBES)), kernel, 2)
    # A row's own correlation is its largest: the second is that with the nearest other.
    return float(best[1].double().clamp(-1, 1).quantile(USUAL_QUANTILE)) if len(best) > 1 else 0.0


def nearest_rows(pool: Pool, targets: Tensor, kernel: Kernel, count: int) -> tuple[Tensor, Tensor]:
    """Returns each target's largest correlations with rows of the pool, descending, and row numbers, (k, m) each.

    Collective: under `torchrun` all processes must call it.
    """
    best = targets.new_zeros(0, len(targets), dtype=torch.float32)
    indices = torch.zeros(0, len(targets), dtype=torch.int64, device=targets.device)
    for start, rows in pool.blocks(torch.float32):
        usable = pool.is_usable(slice(start, start + len(rows)))
        parts = [_block_nearest(rows, part, kernel, count, usable) for part in targets.split(_TARGETS_AT_ONCE)]
        values, positions = (torch.cat(column, dim=1) for column in zip(*parts, strict=True))  # (k, m) each
        best, indices = _largest(torch.cat([best, values]), torch.cat([indices, positions + start]), count)
    best, indices = _largest(distributed.gather_rows(best), distributed.gather_rows(indices), count)
    # All processes must ask for the same rows afterwards, even where machines round differently.
    return best, distributed.broadcast_from_first(indices)


def _block_nearest(
    rows: Tensor, targets: Tensor, kernel: Kernel, count: int, usable: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Returns the largest correlations with rows of one block, and the rows' positions in it, (k, m) each."""
    targets = targets.to(rows.dtype)
    scale = torch.outer(kernel.diagonal(rows).sqrt(), kernel.diagonal(targets).sqrt())  # (B, m)
    correlation = kernel.cross(rows, targets) / scale.clamp_min(torch.finfo(rows.dtype).tiny)
    if usable is not None:
        correlation = correlation.masked_fill(~usable[:, None], -torch.inf)
    top = correlation.topk(min(count, len(rows)), dim=0)
    return top.values, top.indices


def _largest(values: Tensor, indices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Returns the largest values of each column, with their row numbers."""
    top = values.topk(min(count, len(values)), dim=0)
    return top.values, indices.gather(0, top.indices)
