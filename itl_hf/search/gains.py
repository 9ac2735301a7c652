"""Gains of picks, computed with one order of additions, so that they are the same to the last bit for every search.

The runs of a search end at places that depend on blocks and processes, and with them the order in which a candidate's
statistics were added up.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.quality import Quality, select
from itl_hf.objectives.base import Objective

#: Picks that are computed together.
BLOCK_PICKS = 64


def gains_of(objective: Objective, rows: Tensor, quality: Quality = 1.0) -> Tensor:
    """Computes the gain of each pick at the step at which it was made, (n, d) float64 -> (n,).

    Args:
        objective (`Objective`):
            Conditioned on these picks, which are its last ones.
        rows (`Tensor`):
            (n, d), the picks in order.
        quality (`Quality`, *optional*, defaults to 1.0):
            (n,), that of the picks.
    """
    num_before = objective.num_observations - len(rows)
    gains = [rows.new_zeros(0)]
    starts = range(num_before, objective.num_observations, BLOCK_PICKS)
    for start, part in zip(starts, rows.split(BLOCK_PICKS), strict=True):
        end = start + len(part)
        stats, tables = objective.initial_state(part)
        observations = objective.observations(0, end)
        projections = objective.project(part, tables, observations)
        stats = objective.update(stats, projections[:, :start], observations.part(0, start))
        trajectory = objective.trajectory(stats, projections[:, start:], observations.part(start, end))
        before = trajectory[:, :-1].diagonal(dim1=1, dim2=2)  # (k, b), each pick's statistics just before it
        qualities = select(quality, slice(start - num_before, end - num_before))
        if objective.additive:
            scores = objective.score(before, start, qualities)
        else:
            columns = [slice(step, step + 1) for step in range(len(part))]
            scores = torch.cat(
                [objective.score(before[:, at], start + at.start, select(qualities, at)) for at in columns]
            )
        gains.append(objective.gain(scores))
    return torch.cat(gains)
