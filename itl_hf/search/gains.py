"""Gains of picks by one order of additions: the same to the last bit however a search came upon the picks.

Where runs end depends on blocks and processes, and with it the order in which a candidate's numbers were added up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.objectives.base import Objective

AT_ONCE = 64


def gains_of(objective: Objective, rows: Tensor) -> Tensor:
    """The gain of each pick at the moment it was made, (n, d) float64 -> (n,).

    Args:
        objective (`Objective`):
            Conditioned on these picks, which are its last ones.
        rows (`Tensor`):
            (n, d), the picks in order.
    """
    known = objective.count - len(rows)
    gains = [rows.new_zeros(0)]
    for start, part in zip(range(known, objective.count, AT_ONCE), rows.split(AT_ONCE), strict=True):
        numbers, memory = objective.begin(part)
        picks = objective.picks(0, start + len(part))
        columns = objective.columns(part, memory, picks)
        numbers = objective.advance(numbers, columns[:, :start], picks.part(0, start))
        path = objective.path(numbers, columns[:, start:], picks.part(start, start + len(part)))  # (k, b + 1, b)
        before = path[:, :-1].diagonal(dim1=1, dim2=2)  # (k, b), each pick's numbers just before it
        if objective.additive:
            scores = objective.score(before, start)
        else:
            steps = range(len(part))
            scores = torch.cat([objective.score(before[:, step : step + 1], start + step) for step in steps])
        gains.append(objective.gain(scores))
    return torch.cat(gains)
