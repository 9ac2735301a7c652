"""Nearest rows of a pool for many targets, exact: one pass over the pool, a matrix product with all targets for each
block.

No index is built: for a pool that is searched once or twice this costs less, and no row is missed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp import pool as pools
from itl_hf.gp.finite_kernel import check_finite, pool_row_names, target_names
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import answer_noise

#: Targets whose similarities to a block of the pool are held at a time.
TARGETS_AT_ONCE = 128
#: The largest row number that a key can hold.
_LAST = 2**32 - 1


class PoolRows:
    """Gives prepared pool rows by number, in float32 for bounds and in float64 for decisions.

    Args:
        pool (`Pool`):
            The rows, from a tensor or memory map, which every process reads independently.
    """

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self._buffer: Tensor | None = None
        self._matrix: Tensor | None = None
        if pool.num_rows * pool.dimension * 4 <= pools.CACHE_BYTES:
            self._matrix = torch.empty(pool.num_rows, pool.dimension, device=pool.device)
            for start in range(0, pool.num_rows, pool.block_rows):
                part = slice(start, start + pool.block_rows)
                self._matrix[part] = pool.own_rows(part, torch.float32)

    def block(self, start: int) -> Tensor:
        """Returns the rows of the pool's block at `start`, (B, d) float32."""
        if self._matrix is None:
            return self.pool.block(start, torch.float32)
        return self._matrix[start : start + self.pool.block_rows]

    def coarse(self, indices: Tensor) -> Tensor:
        """Returns float32 rows, (B, K) row numbers -> (B, K, d); valid until the next call."""
        if self._matrix is None:
            return self.exact(indices).float()
        shape = *indices.shape, self.pool.dimension
        # One buffer for all calls: allocating new pages takes as long as the copy.
        if self._buffer is None or self._buffer.numel() < math.prod(shape):
            self._buffer = self._matrix.new_empty(math.prod(shape))
        rows = self._buffer[: math.prod(shape)].view(-1, shape[-1])
        return torch.index_select(self._matrix, 0, indices.flatten(), out=rows).view(shape)

    def exact(self, indices: Tensor) -> Tensor:
        """Returns float64 rows, (B, K) row numbers -> (B, K, d)."""
        rows = self.pool.own_rows(indices.flatten())
        return rows.view(*indices.shape, self.pool.dimension)


def nearest(rows: PoolRows, targets: Tensor, kernel: Kernel, noise_variance: float, count: int) -> Tensor:
    """Finds the rows whose answers give most information about each target before any pick, (m, d) -> (m, count) row
    numbers, ascending.

    These are the rows with the largest |k(x, a)| / sqrt(k(x, x) + r), in float32, with r the noise variance over the
    row's quality; for rows of equal norm and quality, with the largest absolute inner product or correlation. Ties go
    to the lowest row number. Unusable rows of the pool are left out; `count` must not exceed the number of the others.

    Raises:
        `ValueError`: If the kernel is not finite for a row and a target, which are named.
    """
    best = torch.zeros(len(targets), 0, dtype=torch.int64, device=targets.device)
    for start in rows.pool.starts:
        block = rows.block(start)  # (B, d)
        whole_block = slice(start, start + len(block))
        numbers = torch.arange(start, whole_block.stop, device=block.device)
        quality, usable = rows.pool.quality_of(whole_block), rows.pool.is_usable(whole_block)
        if usable is not None:
            block, numbers = block[usable], numbers[usable]
            quality = quality[usable] if isinstance(quality, Tensor) else quality
        prior = kernel.diagonal(block)
        check_finite(prior[:, None], kernel, pool_row_names(numbers), lambda _: "itself")
        scale = (prior + answer_noise(noise_variance, quality, block.dtype)).rsqrt()  # (B,)
        parts: list[Tensor] = []
        for part, best_keys in zip(targets.float().split(TARGETS_AT_ONCE), best.split(TARGETS_AT_ONCE), strict=True):
            cross = kernel.cross(part, block)
            check_finite(cross.T, kernel, pool_row_names(numbers), target_names(len(parts) * TARGETS_AT_ONCE))
            parts.append(_merge(best_keys, cross.abs_().mul_(scale), numbers, count))
        best = torch.cat(parts)
    best = distributed.gather_rows(best.T).T
    return (_LAST - (best.topk(count).values & _LAST)).sort(1).values


def _merge(best_keys: Tensor, similarity: Tensor, numbers: Tensor, count: int) -> Tensor:
    """Returns the `count` largest keys among (m, c) earlier ones and those of a block's similarities (m, B), whose row
    numbers are (B,).

    A key is one integer that orders by similarity, then by row: the bits of a non-negative float, read as an integer,
    have the order of the floats.
    """
    row = _LAST - numbers
    if best_keys.shape[1] < count:
        keys = torch.cat([best_keys, _keys(similarity, row)], dim=1)
        return keys.topk(min(count, keys.shape[1]), sorted=False).values
    # Few rows of a later block reach the lowest of the earlier keys: sorting only those is much less work.
    floor = best_keys.amin(1).bitwise_right_shift_(32).int().view(torch.float32)  # (m,)
    target, place = (similarity > floor[:, None]).nonzero(as_tuple=True)
    if len(target) == 0:
        return best_keys
    counts = torch.bincount(target, minlength=len(best_keys))
    column = torch.arange(len(target), device=target.device) - (counts.cumsum(0) - counts)[target]
    table = torch.cat([best_keys, best_keys.new_zeros(len(best_keys), int(counts.max()))], dim=1)
    table[target, best_keys.shape[1] + column] = _keys(similarity[target, place], row[place])
    return table.topk(count, sorted=False).values


def _keys(similarity: Tensor, row: Tensor) -> Tensor:
    return similarity.view(torch.int32).long().bitwise_left_shift_(32).bitwise_or_(row)
