"""ITL with prompts to avoid: information about the targets A, less the information about the prompts B.

    I(f(A); y_x | D) - w I(f(B); y_x | D) = 1/2 log[(s + r) / (c_A + r)] - w/2 log[(s + r) / (c_B + r)]

with s, c and r as in `itl_hf.objectives.itl`, and w >= 0 the weight of what is avoided. With w = 0 it is ITL. The sum
of the gains over the picks is I(f(A); y_D) - w I(f(B); y_D), by the chain rule of each term.

The difference is neither monotone nor submodular: a pick may be worse than none (its gain is then negative), and a
gain may rise after a pick. So greedy search has no bound on its distance from the best set; each of its picks is the
row with the largest difference given those before it.

The statistics are s and e = s - c for A and for B, as in ITL; a pick lowers each by squares of projections under three
posteriors: the prior's, that given A, and that given B.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.quality import Quality
from itl_hf.objectives.base import Objective, ObservationBlock, ProjectionTables


class AvoidingITL(Objective):
    """Information about the targets less `weight` times that about the targets of `avoid_gp`, in nats.

    Args:
        gp (`GaussianProcess`):
            Kernel, targets and noise.
        avoid_gp (`GaussianProcess`):
            The same with the prompts to avoid as targets.
        weight (`float`):
            How much the information about them counts; not negative.

    Example:
        >>> import torch
        >>> from itl_hf.gp.kernels import Linear
        >>> prompts = torch.eye(2).double()
        >>> gps = [GaussianProcess(Linear(), one[None], noise_std=1.0, target_noise_std=0.0) for one in prompts]
        >>> objective = AvoidingITL(*gps, weight=1.0)
        >>> stats, _ = objective.initial_state(torch.eye(2).double())
        >>> objective.gain(objective.score(stats, 0))
        tensor([ 0.3466, -0.3466], dtype=torch.float64)
    """

    name = "avoiding_itl"

    def __init__(self, gp: GaussianProcess, avoid_gp: GaussianProcess, weight: float) -> None:
        given_values = [gp.posterior_given_targets(), avoid_gp.posterior_given_targets()]
        super().__init__(gp, [gp.posterior(), *given_values])
        self.weight = weight
        self._shares = [posterior.given_share for posterior in given_values]

    def initial_stats(self, rows: Tensor, tables: ProjectionTables) -> Tensor:
        """Variances s, e of A and e of B, (3, B)."""
        prior = self.gp.kernel.diagonal(rows)
        return torch.stack([prior, *(table.square().sum(0).minimum(prior) for table in tables[1:])])

    def decrements(self, projections: Tensor, observations: ObservationBlock) -> Tensor:
        """`s` falls by p^2, each e by p^2 - q^2, with q the projection under its posterior."""
        squares = projections.square()
        return torch.stack([squares[0], squares[0] - squares[1], squares[0] - squares[2]])

    def optimistic_stats(
        self, stats: Tensor, projections: Tensor, observations: ObservationBlock, prefix_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """For A as in ITL: the largest e with the smallest c.

        For B the smallest share e / (s + r). With s* the s of A's optimistic statistics, e* = e_min min(1, s* / s_max)
        is such that e* / (s* + r) is at most e / (s + r) at every step, whatever r: if s* <= s_max because x / (x + r)
        rises with x, and otherwise because the numerator is smaller and the denominator larger.
        """
        decrements = self.decrements(projections, observations)
        after = stats[:, None] - prefix_mask @ decrements  # (3, c, B)
        before = torch.cat([stats[:, None], after[:, :-1]], dim=1)  # (3, c, B)
        segment_mask = torch.diff(prefix_mask, dim=0, prepend=torch.zeros_like(prefix_mask[:1]))
        target_part = before[1] - segment_mask @ decrements[1].clamp_max(0)
        variance = target_part + (after[0] - after[1])
        least_avoid_part = (before[2] - segment_mask @ decrements[2].clamp_min(0)).clamp_min(0)
        ratio = (variance / before[0].clamp_min(torch.finfo(stats.dtype).tiny)).clamp(0, 1)
        return torch.stack([variance, target_part, least_avoid_part * ratio]), after

    def score(self, stats: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The difference, in nats."""
        return self.upper_bound(stats, torch.zeros_like(stats), num_observations, quality)

    def upper_bound(self, stats: Tensor, slack: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The most that the answer may tell about A, less the least that it may tell about B."""
        variance, target_part, avoid_part = stats
        noise = self.answer_noise(stats, quality)
        least_conditional = (variance - target_part - slack[0] - slack[1]).clamp_min(0)
        most_conditional = (variance - avoid_part + slack[0] + slack[2]).clamp_min(0)
        most = torch.log1p((target_part + slack[1]).clamp_min(0) / (least_conditional + noise))
        least = torch.log1p((avoid_part - slack[2]).clamp_min(0) / (most_conditional + noise))
        return 0.5 * (most - self.weight * least)

    def expand_scales(self, scales: Tensor) -> Tensor:
        """Each e, and all that is taken from it, is the share of s that its prompts or a pick explain, at most."""
        of_pick = 1 / (1 + self.noise_variance / max(self.largest_variance, self.observed_variance))
        return torch.cat([scales, *(scales * max(of_pick, share) for share in self._shares)])
