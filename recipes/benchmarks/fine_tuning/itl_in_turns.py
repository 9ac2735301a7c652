"""A method between ITL and round-robin: targets take turns; in each turn the row is picked that gives most information
about that target.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.search.greedy import GreedyPicks
from itl_hf.selection.baselines.balanced import BalancedRoundRobin
from itl_hf.selection.baselines.ranking import turn_order
from itl_hf.selection.protocol import SelectionRequest, measure_picks


@dataclass(frozen=True)
class ItlInTurns(BalancedRoundRobin):
    """Picks, for each target a in turn, the row that maximises the information about it alone, I(f(a); y_x | D).

    That is the row with the largest Cov[f(x), f(a) | D]^2 / (Var[f(x) | D] + noise), of a positive covariance; D are
    the picks of all targets so far. It was tried because round-robin, which takes the nearest row in place of the most
    informative one, is ahead of ITL with many equal targets. It reads the whole pool for every pick and knows no
    limits, so it is not for use outside this benchmark.

    Args:
        balance (`float`, *optional*, defaults to 0.0):
            Exponent of the shares of turns of `BalancedRoundRobin`: 0 for equal turns, 1 for its own.
    """

    name: str = "itl_in_turns"
    balance: float = 0.0

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Takes turns; ties go to the lowest row number."""
        rows: Tensor = pool.rows(range(pool.num_rows)).double()  # (N, d)
        noise_variance = gp.noise_std**2
        variance = gp.kernel.diagonal(rows).clone()  # (N,)
        cov = gp.kernel.cross(gp.targets, rows)  # (m, N)
        projections = rows.new_zeros(0, len(rows))  # (picks, N)
        is_open, picks = request.open_rows(len(rows)), list[int]()
        turns = turn_order(len(gp.targets), self.turn_weights(gp) ** self.balance)
        while len(picks) < request.availability.num_examples:
            target_cov = cov[next(turns)].clamp_min(0)
            score = target_cov.square() / (variance + noise_variance)
            picks.append(int(score.masked_fill(~is_open, -torch.inf).argmax()))
            is_open[picks[-1]] = False
            column = projections[:, picks[-1]]
            pick_cov = gp.kernel.cross(rows[picks[-1:]], rows)[0] - column @ projections  # (N,)
            scale = (variance[picks[-1]] + noise_variance).sqrt()
            cov = cov - torch.outer(cov[:, picks[-1]] / scale, pick_cov / scale)
            variance = (variance - (pick_cov / scale).square()).clamp_min(0)
            projections = torch.cat([projections, (pick_cov / scale)[None]])
        return measure_picks(picks, pool, gp, request)
