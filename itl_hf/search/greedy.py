"""Exact greedy selection: the row with the largest gain, given the picks so far, again and again.

This is the plain form, for reading and for tests: float64, one process, one pass over the pool for every pick.
`speculate` finds the same picks in a few passes. Gains are never carried over from an earlier pick: ITL's gain can rise
after a pick (two rows may be worth more together), so a lazy heap would be wrong.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.pool import Pool
from itl_hf.objectives.base import Objective

RELATIVE_TIE = 1e-9


@dataclass(frozen=True)
class GreedyPicks:
    """Rows in the order picked, with the gain of each at the moment it was picked.

    Args:
        indices (`list[int]`):
            Row numbers.
        gains (`list[float]`):
            The objective's gains, in its units (nats for ITL).
        passes (`int`):
            How often the pool was read.
    """

    indices: list[int]
    gains: list[float]
    passes: int = 0


def plain_greedy(pool: Pool, objective: Objective, num_examples: int, *, replace: bool = False) -> GreedyPicks:
    """Picks `num_examples` rows, each the best given those before it; `objective` is left conditioned on them.

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
    numbers, memory = objective.begin(rows)
    free = torch.ones(len(rows), dtype=torch.bool)
    slack = objective.rounding(objective.gp.kernel.diagonal(rows).max().item())
    indices: list[int] = []
    gains: list[float] = []
    for _ in range(num_examples):
        scores = objective.score(numbers, objective.count)  # (N,)
        best, _ = first_best(scores.masked_fill(~free, -torch.inf), slack)
        indices.append(best)
        gains.append(objective.gain(scores[best]).item())
        free[best] = replace
        objective.observe(rows[best])
        picks = objective.picks(objective.count - 1, objective.count)
        columns = objective.columns(rows, memory, picks)
        numbers, memory = objective.advance(numbers, columns, picks), objective.remember(memory, columns)
    return GreedyPicks(indices, gains, passes=num_examples)


def tie(score: float, rounding: float) -> float:
    """How much lower than the best `score` still counts as equal to it.

    Scores are ratios whose denominators carry rounding too, hence its part that grows with the score.
    """
    return abs(score) * (RELATIVE_TIE + rounding) + rounding


def first_best(scores: Tensor, rounding: float) -> tuple[int, float]:
    """The first place whose score equals the largest but for rounding, (N,) -> place, score.

    Equal rows (duplicates) get scores that differ in their last bits with their place in a matrix product; without a
    tolerance that, not the row number, would decide between them.
    """
    best = float(scores.max())
    if best == -torch.inf:
        return 0, best
    place = int((scores >= best - tie(best, rounding)).byte().argmax())
    return place, float(scores[place])
