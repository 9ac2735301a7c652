"""Exact greedy selection: picks the row with the largest gain given the picks so far, and repeats.

This is the plain form, for reading and for tests: float64, one process, one pass over the pool for every pick.
`itl_hf.search.speculative` finds the same picks in a few passes. Gains are computed anew at every step: ITL's gain can
rise after a pick (two rows together may give more information than the sum of both), so gains from earlier steps, as
lazy greedy search reuses them, would give wrong picks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import each
from itl_hf.objectives.base import Objective
from itl_hf.search.exactness import check_noise, first_best, gain_uncertainties, rounding_slack
from itl_hf.search.finite import is_finite, refuse_non_finite


@dataclass(frozen=True)
class GreedyPicks:
    """Rows in the order picked, with the gain of each at its step.

    Args:
        indices (`list[int]`):
            Row numbers.
        gains (`list[float]`):
            The objective's gains, in its units (nats for ITL).
        passes (`int`, *optional*, defaults to 0):
            How often the pool was read.
        uncertainties (`tuple[float, ...]`, *optional*):
            By which share the gain of each pick may lie below that of the best row because of rounding; empty where
            this is not known (`itl_hf.search.exactness`).
    """

    indices: list[int]
    gains: list[float]
    passes: int = 0
    uncertainties: tuple[float, ...] = ()


def plain_greedy(pool: Pool, objective: Objective, num_examples: int, *, replace: bool = False) -> GreedyPicks:
    """Picks `num_examples` rows, each with the largest gain given those before it. `objective` is left conditioned on
    the picks.

    Args:
        pool (`Pool`):
            The rows to pick from.
        objective (`Objective`):
            The objective.
        num_examples (`int`):
            How many rows to pick.
        replace (`bool`, *optional*, defaults to `False`):
            Whether a row may be picked again.
    """
    rows = torch.cat([block for _, block in pool.blocks()])  # (N, d)
    stats, tables = objective.initial_state(rows)
    if not is_finite([stats]):
        raise _non_finite(objective, rows, [])
    quality, is_free = pool.quality_of(slice(None)), torch.ones(len(rows), dtype=torch.bool, device=rows.device)
    qualities = each(quality, len(rows))
    objective.largest_variance = objective.gp.kernel.diagonal(rows).max().item()
    check_noise(objective.gp.noise_std, objective.gp.target_noise_std, objective.largest_variance)
    slack = rounding_slack(objective, objective.error_scales(stats))
    indices: list[int] = []
    gains: list[float] = []
    uncertainties: list[float] = []
    for _ in range(num_examples):
        best = first_best(objective, stats, slack, quality, ~is_free)
        best.check()
        position, is_resolved = int(best.position), best.is_resolved is None or best.is_resolved[None]
        indices.append(position)
        gains += objective.gain(best.score).tolist()
        uncertainties += gain_uncertainties(objective, best.score, best.margin, torch.as_tensor(is_resolved))
        is_free[position] = replace
        objective.observe(rows[position], qualities[position])
        observations = objective.observations(objective.num_observations - 1, objective.num_observations)
        projections = objective.project(rows, tables, observations)
        stats = objective.update(stats, projections, observations)
        if not is_finite([stats]):
            raise _non_finite(objective, rows, indices)
        if objective.uses_projection_cache:
            num_posteriors = len(objective.posteriors)
            grown_tables = [torch.cat(pair) for pair in zip(tables[:num_posteriors], projections, strict=False)]
            tables = grown_tables + tables[num_posteriors:]
    return GreedyPicks(indices, gains, num_examples, tuple(uncertainties))


def _non_finite(objective: Objective, rows: Tensor, indices: list[int]) -> ValueError:
    """Raises or returns the error for rows, (N, d), with a kernel that is not finite, given the picks so far."""
    picks = torch.tensor(indices, dtype=torch.int64)
    return refuse_non_finite(objective.gp, rows, torch.arange(len(rows)), rows[picks], picks)
