"""ITL, information-based transductive learning: the pick whose answer gives most information about the targets.

    I(f(A); y_x | D) = 1/2 log[(s + r) / (c + r)]

with s = Var[f(x) | D] given the picks D, c = Var[f(x) | D, f(A)] given the targets' values as well, and r the noise
variance of the row's answer. One pick z lowers s by p(x)^2, p(x) = Cov[f(x), f(z) | D] / sqrt(r_z + s(z)), and c by the
same under the second posterior.

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

    def initial_stats(self, rows: Tensor, tables: ProjectionTables) -> Tensor:
        """Variances s and c, (2, B)."""
        prior = self.gp.kernel.diagonal(rows)
        return torch.stack([prior, prior - tables[1].square().sum(0)]).clamp_min_(0)

    def initial_state_with_target_cov(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Variances, and the projections on the targets' values, which are the covariances with their directions."""
        target_cov = self.posteriors[1].given_projections(rows)
        return self.initial_stats(rows, [target_cov, target_cov]), target_cov

    def decrements(self, projections: Tensor, observations: ObservationBlock) -> Tensor:
        """Both variances fall by the squared projections."""
        return projections.square()

    def optimistic_stats(
        self, stats: Tensor, projections: Tensor, observations: ObservationBlock, prefix_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Variances only fall: s is largest at the start of a segment, c smallest at its end."""
        after = stats[:, None] - prefix_mask @ projections.square()
        before = torch.cat([stats[:1], after[0, :-1]])
        return torch.stack([before, after[1]]), after

    def score(self, stats: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """(s - c) / (c + r), of which the gain is 1/2 log1p."""
        variance, conditional = stats
        noise = self.answer_noise(stats, quality)
        return (variance - conditional).clamp_min(0) / (conditional.clamp_min(0) + noise)

    def upper_bound(self, stats: Tensor, slack: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The score of the largest s with the smallest c."""
        variance, conditional = stats
        difference = variance - conditional + slack.sum(0)
        return difference / ((conditional - slack[1]).clamp_min_(0) + self.answer_noise(stats, quality))

    def gain(self, score: Tensor) -> Tensor:
        """Nats. With log1p: at large noise the ratio is 1 + 1e-6, and its logarithm would lose half of the digits."""
        return 0.5 * torch.log1p(score)
