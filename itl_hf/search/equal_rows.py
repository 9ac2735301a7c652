"""Rows that are equal to others: of several equal rows only the one with the lowest number can win a comparison."""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.pool import Pool
from itl_hf.search.candidates import Candidates, Run
from itl_hf.search.limits import Limits, upload


def may_win(indices: Tensor, pool: Pool, limits: Limits, candidates: Candidates, run: Run) -> Tensor:
    """Returns False for rows equal to a candidate with a lower number that the run does not pick, (V,) bool.

    Args:
        indices (`Tensor`):
            (V,) int64 row numbers, on the CPU.
        pool (`Pool`):
            The rows.
        limits (`Limits`):
            Which rows may be picked. Where there are constraints, every row may win: copies may belong to other groups.
        candidates (`Candidates`):
            The rows that the run was made among.
        run (`Run`):
            A speculated run.
    """
    if limits.is_constrained:
        return torch.ones(len(indices), dtype=torch.bool)
    is_unpicked = torch.ones(len(candidates.numbers), dtype=torch.bool)
    is_unpicked[run.positions] = False
    rows = pool.rows(indices.tolist())
    suspect_hashes = _hashes(pool, rows, upload(indices, rows.device))
    hashes = torch.cat([suspect_hashes, _hashes(pool, candidates.rows, candidates.indices)]).cpu()
    lowest: dict[int, int] = {}
    open_hashes = (hashes[len(indices) :][is_unpicked], candidates.numbers[is_unpicked])
    for row_hash, index in zip(*(numbers.tolist() for numbers in open_hashes), strict=True):
        lowest.setdefault(row_hash, index)
    pairs = zip(hashes[: len(indices)].tolist(), indices.tolist(), strict=True)
    return torch.tensor([lowest.get(row_hash, index) >= index for row_hash, index in pairs], dtype=torch.bool)


def _hashes(pool: Pool, rows: Tensor, indices: Tensor) -> Tensor:
    """Returns a number for each row that rows of equal features and quality share, (V, d), (V,) -> (V,)."""
    quality = pool.quality_of(indices)
    return row_hashes(torch.cat([rows, quality[:, None]], dim=1) if isinstance(quality, Tensor) else rows)


def row_hashes(rows: Tensor) -> Tensor:
    """Returns a number for each row that equal rows share, (B, d) float64 -> (B,) int64. It is computed with integers,
    so it does not depend on rounding.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator).to(rows.device) | 1
    return (rows.contiguous().view(torch.int64) * weights).sum(1)
