"""ITL, information-based transductive learning: the pick whose answer gives most information about the targets.

    I(f(A); y_x | D) = 1/2 log[(s + r) / (c + r)]

with s = Var[f(x) | D] given the picks D, c = Var[f(x) | D, f(A)] given the targets' values as well, and r the noise
variance of the row's answer. One pick z lowers s by p(x)^2, p(x) = Cov[f(x), f(z) | D] / sqrt(r_z + s(z)), and c by the
same under the second posterior.

The statistics are s and e = s - c, the variance that the targets' values explain, which starts as a sum of squares. At
large noise e is a tiny part of s, and the difference of two variances would lose its digits.

Source: Huebotter, Sukhija, Treven, As & Krause, "Active Few-Shot Fine-Tuning" / "Transductive Active Learning: Theory
and Applications" (2024); eq. 43-44 of the appendix for noise on the targets' values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.posterior import LinearPosterior
from itl_hf.gp.quality import Quality
from itl_hf.objectives.base import Objective, ObservationBlock, ProjectionTables


class ITL(Objective):
    """Information about the targets, 1/2 log[(s + r) / (c + r)], in nats.

    With noise-free targets and as many independent targets as dimensions, c = 0 for every row, and ITL no longer
    depends on the targets.

    Example:
        >>> import torch
        >>> from itl_hf.gp.kernels import Linear
        >>> itl = ITL(GaussianProcess(Linear(), torch.eye(2)[:1].double(), noise_std=1.0, target_noise_std=0.0))
        >>> stats, _ = itl.initial_state(torch.eye(2).double())
        >>> itl.gain(itl.score(stats, 0))
        tensor([0.3466, 0.0000], dtype=torch.float64)
    """

    name = "itl"

    def __init__(self, gp: GaussianProcess) -> None:
        given_targets = gp.posterior_given_targets()
        super().__init__(gp, [gp.posterior(), given_targets])
        if isinstance(given_targets, LinearPosterior):
            self.target_basis = given_targets.given_directions
        self.target_share = given_targets.given_share

    def initial_stats(self, rows: Tensor, tables: ProjectionTables) -> Tensor:
        """Variances s and e, (2, B)."""
        prior = self.gp.kernel.diagonal(rows)
        return torch.stack([prior, tables[1].square().sum(0).minimum(prior)])

    def initial_state_with_target_cov(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Variances, and the projections on the targets' values, which are the covariances with their directions."""
        target_cov = self.posteriors[1].given_projections(rows)
        return self.initial_stats(rows, [target_cov, target_cov]), target_cov

    def decrements(self, projections: Tensor, observations: ObservationBlock) -> Tensor:
        """`s` falls by p^2, e by p^2 - q^2, with q the projection under the second posterior."""
        squares = projections.square()
        return torch.stack([squares[0], squares[0] - squares[1]])

    def optimistic_stats(
        self, stats: Tensor, projections: Tensor, observations: ObservationBlock, prefix_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """`c` is smallest at the end of a segment; e may rise, by the sum of its rises at most."""
        decrements = self.decrements(projections, observations)
        after = stats[:, None] - prefix_mask @ decrements
        before = torch.cat([stats[1:], after[1, :-1]])  # (c, B)
        segment_mask = torch.diff(prefix_mask, dim=0, prepend=torch.zeros_like(prefix_mask[:1]))
        explained_variance = before - segment_mask @ decrements[1].clamp_max(0)
        return torch.stack([explained_variance + (after[0] - after[1]), explained_variance]), after

    def score(self, stats: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """`e / (c + r)`, of which the gain is 1/2 log1p."""
        variance, explained_variance = stats
        noise = self.answer_noise(stats, quality)
        return explained_variance.clamp_min(0) / ((variance - explained_variance).clamp_min(0) + noise)

    def upper_bound(self, stats: Tensor, slack: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The score of the largest e with the smallest c."""
        variance, explained_variance = stats
        conditional = (variance - explained_variance - slack.sum(0)).clamp_min_(0)
        return (explained_variance + slack[1]) / (conditional + self.answer_noise(stats, quality))

    def expand_scales(self, scales: Tensor) -> Tensor:
        """`e` and all that is taken from it are the share of s that the targets or a pick explain, at most."""
        of_pick = 1 / (1 + self.noise_variance / max(self.largest_variance, self.observed_variance))
        return torch.cat([scales, scales * max(of_pick, self.target_share)])

    def gain(self, score: Tensor) -> Tensor:
        """Nats. With log1p: at large noise the ratio is 1 + 1e-6, and its logarithm would lose half of the digits."""
        return 0.5 * torch.log1p(score)
