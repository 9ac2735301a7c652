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

RELATIVE_TIE = 1e-9


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
    """

    indices: list[int]
    gains: list[float]
    passes: int = 0


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
    quality, is_free = pool.quality_of(slice(None)), torch.ones(len(rows), dtype=torch.bool)
    qualities = each(quality, len(rows))
    rounding = objective.rounding_error(objective.gp.kernel.diagonal(rows).max().item())
    indices: list[int] = []
    gains: list[float] = []
    for _ in range(num_examples):
        scores = objective.score(stats, objective.num_observations, quality)  # (N,)
        best, _ = first_best(scores.masked_fill(~is_free, -torch.inf), rounding)
        indices.append(best)
        gains.append(objective.gain(scores[best]).item())
        is_free[best] = replace
        objective.observe(rows[best], qualities[best])
        observations = objective.observations(objective.num_observations - 1, objective.num_observations)
        projections = objective.project(rows, tables, observations)
        stats = objective.update(stats, projections, observations)
        if objective.uses_projection_cache:
            num_posteriors = len(objective.posteriors)
            grown_tables = [torch.cat(pair) for pair in zip(tables[:num_posteriors], projections, strict=False)]
            tables = grown_tables + tables[num_posteriors:]
    return GreedyPicks(indices, gains, passes=num_examples)


def tie_margin(score: float, rounding: float) -> float:
    """Returns how much lower than the best `score` still counts as equal to it.

    Scores are ratios whose denominators have rounding errors too, hence the part that grows with the score.
    """
    return abs(score) * (RELATIVE_TIE + rounding) + rounding


def first_best(scores: Tensor, rounding: float) -> tuple[int, float]:
    """Returns the first position whose score equals the largest up to rounding, and its score; (N,) scores.

    Equal rows (duplicates) get scores that differ in their last bits with their position in a matrix product. Without a
    tolerance these bits, not the row number, would decide between them.
    """
    best = float(scores.max())
    if best == -torch.inf:
        return 0, best
    position = int((scores >= best - tie_margin(best, rounding)).byte().argmax())
    return position, float(scores[position])
