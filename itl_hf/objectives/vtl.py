"""VTL: variance-based transductive learning."""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.posterior import LinearPosterior
from itl_hf.objectives.base import Memory, Picks
from itl_hf.objectives.targeted import Targeted


class VTL(Targeted):
    """v / (s + r): how much of the targets' total variance a row's answer removes; v is its squared covariance with
    them, summed.

    With one target this is SIFT. A pick with g = sum_a p(a)^2 and h(x) = sum_a Cov[f(x), f(a)] p(a) lowers v by
    p(x) (2 h(x) - g p(x)); the bracket is its second column.
    """

    name = "vtl"

    def __init__(self, gp: GaussianProcess) -> None:
        super().__init__(gp)
        self.width = 2

    @property
    def anchors(self) -> Tensor | None:
        """The targets."""
        return None if self.remembers else self.gp.targets

    def begin(self, rows: Tensor) -> tuple[Tensor, Memory]:
        """As `Objective.begin`; where rows have memory, their kernel with the targets is part of it."""
        numbers, cross = self.begin_anchored(rows)
        return numbers, [self.posteriors[0].begin(rows), cross] if self.remembers else []

    def begin_anchored(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        cross = self.gp.kernel.cross(rows, self.gp.targets.to(rows.dtype)).T  # (m, B)
        return torch.stack([self.posteriors[0].prior_variance(rows), cross.square().sum(0)]), cross

    def picks(self, first: int, last: int) -> Picks:
        """Also what h needs: its directions for finite features; otherwise g, p(A) and the products p_i(A).p_j(A) of
        earlier picks.
        """
        seen, frames = self.target_projections, super().picks(first, last).frames
        new = seen[first:last].clone()  # (b, m)
        gram = new @ seen[:last].T  # (b, last), of which the diagonal from `first` on is g
        if isinstance(self.posteriors[0], LinearPosterior):
            weights = gram.tril(first).add_(gram.tril(first - 1))  # g once, earlier picks twice
            known = self.posteriors[0].directions[:last]
            return Picks(first, frames, [torch.addmm(new @ self.gp.targets, weights, known, beta=2, alpha=-1)])
        return Picks(first, frames, [new.square().sum(1, keepdim=True), new, gram.tril_(first - 1)])

    def directions(self, picks: Picks) -> list[Tensor]:
        """See `Objective`."""
        return [picks.frames[0].rows, picks.extra[0]]

    def columns(self, rows: Tensor, memory: Memory, picks: Picks) -> Tensor:
        """P and 2 h - g p, (2, b, B)."""
        if not self.remembers:
            return super().columns(rows, memory, picks)
        projections = super().columns(rows, memory[:1], picks)[0]
        power, new, gram = picks.extra
        earlier = memory[0][: gram.shape[1] - len(new)]
        towards = new @ memory[1] - gram @ torch.cat([earlier, projections])
        return torch.stack([projections, 2 * towards - power * projections])

    def falls(self, columns: Tensor, picks: Picks) -> Tensor:
        """S falls by p^2, v by p (2 h - g p)."""
        return columns * columns[:1]

    def best_of_stretches(self, numbers: Tensor, columns: Tensor, picks: Picks, sums: Tensor) -> tuple[Tensor, Tensor]:
        """S is smallest at the end of a stretch; v may rise, by all of its rises at most."""
        falls = self.falls(columns, picks)
        after = numbers[:, None] - sums @ falls
        before = torch.cat([numbers[1:], after[1, :-1]])  # (c, B)
        stretches = torch.diff(sums, dim=0, prepend=torch.zeros_like(sums[:1]))
        return torch.stack([after[0], before - stretches @ falls[1].clamp_max(0)]), after

    def score(self, numbers: Tensor, count: int) -> Tensor:
        """V / (s + r)."""
        variance, explained = numbers
        return explained.clamp_min(0) / (variance.clamp_min(0) + self.noise_variance)

    def upper(self, numbers: Tensor, slack: Tensor, count: int) -> Tensor:
        """The largest v with the smallest s."""
        variance, explained = numbers
        return (explained + slack[1]) / ((variance - slack[0]).clamp_min_(0) + self.noise_variance)

    def scales(self, numbers: Tensor) -> Tensor:
        """V only falls, so its first value is its size; a part comes from products of numbers that are not small."""
        variance, explained = numbers
        return torch.stack([variance, explained + variance * self.prior.mean().to(variance.dtype)])

    def rounding(self, largest: float) -> float:
        """V is of the size of the targets' total variance times `largest`."""
        return 4e-15 * largest * float(self.prior.sum()) / self.noise_variance
