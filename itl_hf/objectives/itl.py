"""ITL: information-based transductive learning."""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.posterior import LinearPosterior
from itl_hf.objectives.base import Memory, Objective, Picks


class ITL(Objective):
    """I(f(A); y_x | picks) = 1/2 log[(s + r) / (c + r)]: the information a row's answer carries about the targets.

    s is the row's posterior variance, c the same given the targets' values as well, r the noise variance. With
    noise-free targets and as many independent targets as dimensions, c = 0 for every row and ITL has lost its
    direction.

    Example:
        >>> import torch
        >>> from itl_hf.gp.kernels import Linear
        >>> itl = ITL(GaussianProcess(Linear(), torch.eye(2)[:1].double(), noise_std=1.0, target_noise_std=0.0))
        >>> numbers, _ = itl.begin(torch.eye(2).double())
        >>> itl.gain(itl.score(numbers, 0))
        tensor([0.3466, 0.0000], dtype=torch.float64)
    """

    name = "itl"

    def __init__(self, gp: GaussianProcess) -> None:
        super().__init__(gp, [gp.posterior(), gp.posterior_given_targets()])

    def start(self, rows: Tensor, given: Memory) -> Tensor:
        """Variances s and c, (2, B)."""
        prior = self.posteriors[0].prior_variance(rows)
        return torch.stack([prior, prior - given[1].square().sum(0)]).clamp_min_(0)

    def falls(self, columns: Tensor, picks: Picks) -> Tensor:
        """Both variances fall by the squared projections."""
        return columns.square()

    @property
    def anchors(self) -> Tensor | None:
        """The directions of the targets' values."""
        given = self.posteriors[1]
        return given.given_directions if isinstance(given, LinearPosterior) else None

    def begin_anchored(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        given = self.posteriors[1].begin(rows)
        return self.start(rows, [given, given]), given

    def best_of_stretches(self, numbers: Tensor, columns: Tensor, picks: Picks, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Variances only fall: s is largest at the start of a stretch, c smallest at its end."""
        after = numbers[:, None] - sums @ self.falls(columns, picks)
        before = torch.cat([numbers[:1], after[0, :-1]])
        return torch.stack([before, after[1]]), after

    def score(self, numbers: Tensor, count: int) -> Tensor:
        """(s - c) / (c + r), of which the gain is 1/2 log1p."""
        variance, given = numbers
        return (variance - given).clamp_min(0) / (given.clamp_min(0) + self.noise_variance)

    def upper(self, numbers: Tensor, slack: Tensor, count: int) -> Tensor:
        """The largest s with the smallest c."""
        variance, given = numbers
        high = variance - given + slack.sum(0)
        return high / ((given - slack[1]).clamp_min_(0) + self.noise_variance)

    def gain(self, score: Tensor) -> Tensor:
        """Nats. log1p: at large noise the ratio is 1 + 1e-6 and its logarithm would lose half of the digits."""
        return 0.5 * torch.log1p(score)
