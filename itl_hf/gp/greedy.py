"""Exact greedy selection: the row with the largest gain, given the picks so far, again and again.

This is the plain form: every pick reads the whole pool once. It is exact in float64, breaks ties towards the lowest row
number, and
does not trust stale gains: ITL's gain can rise after a pick (two rows may be worth more together), so a lazy heap would
be wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.objectives import Objective
from itl_hf.gp.pool import Pool

RELATIVE_TIE = 1e-9


@dataclass(frozen=True)
class Picks:
    """Rows in the order picked, with the gain of each at the moment it was picked.

    Args:
        indices (`list[int]`): row numbers.
        gains (`list[float]`): the objective's gains, in its units (nats for ITL).
    """

    indices: list[int]
    gains: list[float]


def greedy(
    pool: Pool,
    objective: Objective,
    num_examples: int,
    *,
    replace: bool = False,
    on_pick: Callable[[], object] | None = None,
) -> Picks:
    """Picks `num_examples` rows, each the best given those before it.

    Args:
        pool (`Pool`): the rows to pick from.
        objective (`Objective`): the objective; it is left conditioned on the picks.
        num_examples (`int`): how many rows to pick.
        replace (`bool`, *optional*, defaults to `False`): whether a row may be picked again.
        on_pick (`Callable`, *optional*): called after each pick, for a progress bar.

    Returns:
        `Picks`: row numbers and gains.
    """
    numbers = torch.cat([objective.start(rows) for _, rows in pool.blocks()], dim=1)  # (k, N)
    rounding = objective.rounding(numbers[0].max().item())
    free = torch.ones(pool.num_rows, dtype=torch.bool)
    indices: list[int] = []
    gains: list[float] = []
    while len(indices) < num_examples:
        scores = objective.score(numbers)  # (N,)
        best = first_best(scores.masked_fill(~free, -torch.inf), rounding)
        indices.append(best)
        gains.append(scores[best].item())
        free[best] = replace
        directions = objective.observe(pool.rows([best])[0])  # (q, d)
        for start, rows in pool.blocks():
            part = slice(start, start + len(rows))
            numbers[:, part] = objective.update(numbers[:, part], directions @ rows.T)
        if on_pick is not None:
            on_pick()
    return Picks(indices, gains)


def first_best(scores: Tensor, rounding: float) -> int:
    """The lowest row number whose score equals the largest but for rounding, (N,) -> row.

    Equal rows (duplicates) get scores that differ in their last bits with their place in a matrix product; without a
    tolerance that, not the row number, would decide between them.
    """
    best = scores.max()
    return int((scores >= best - best.abs() * RELATIVE_TIE - rounding).nonzero()[0])
