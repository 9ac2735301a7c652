"""Objectives that follow each target: VTL, mean-marginal ITL, CTL; and all objectives by name.

Sources: Seo et al., "Gaussian Process Regression: Active Data Selection and Test Point Rejection" (2000) for VTL;
Huebotter et al., "Efficiently Learning at Test-Time: Active Fine-Tuning of LLMs" (SIFT, ICLR 2025), which is VTL with
one target; Huebotter et al., "Transductive Active Learning" (2024), appendix, for the mean-marginal form and CTL.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from itl_hf.gp.growing import Growing
from itl_hf.gp.objectives import ITL, Memory, Objective, Picks, Setting, Undirected
from itl_hf.gp.posterior import LinearPosterior


class Targeted(Objective):
    """Objectives that follow each target: what the picks say to the targets is kept beside what they say to the
    rows.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting, [setting.posterior()])
        self._seen = Growing(len(setting.targets), setting.targets)
        self.prior = setting.kernel.diagonal(setting.targets)  # (m,)

    @property
    def target_projections(self) -> Tensor:
        """What the picks say to the targets, (count, m) float64."""
        return self._seen[:]

    def observe(self, row: Tensor) -> None:
        """Picks a row and notes what it says to the targets."""
        known = self.target_projections
        super().observe(row)
        self._seen.append(self.posteriors[0].latest(self.setting.targets, known))

    def forget(self, count: int) -> None:
        """Takes back picks."""
        super().forget(count)
        self._seen.count = count

    def target_variance(self, count: int) -> Tensor:
        """Var[f(a)] of each target after `count` picks, (m,)."""
        return (self.prior - self.target_projections[:count].square().sum(0)).clamp_min(0)


class VTL(Targeted):
    """v / (s + r): how much of the targets' total variance a row's answer removes; v is its squared covariance with
    them, summed.

    With one target this is SIFT. A pick with g = sum_a p(a)^2 and h(x) = sum_a Cov[f(x), f(a)] p(a) lowers v by
    p(x) (2 h(x) - g p(x)); the bracket is its second column.
    """

    name = "vtl"

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.width = 2

    @property
    def anchors(self) -> Tensor | None:
        """The targets."""
        return None if self.remembers else self.setting.targets

    def begin(self, rows: Tensor) -> tuple[Tensor, Memory]:
        """As `Objective.begin`; where rows have memory, their kernel with the targets is part of it."""
        numbers, cross = self.begin_anchored(rows)
        return numbers, [self.posteriors[0].begin(rows), cross] if self.remembers else []

    def begin_anchored(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """See `Objective`."""
        cross = self.setting.kernel.cross(rows, self.setting.targets.to(rows.dtype)).T  # (m, B)
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
            return Picks(first, frames, [torch.addmm(new @ self.setting.targets, weights, known, beta=2, alpha=-1)])
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


class _PerTarget(Targeted):
    """Objectives that need each Cov[f(x), f(a)]: the numbers are s and those m covariances."""

    additive = False  # scores depend on what is known of each target, and m numbers at many steps would be too many

    def start(self, rows: Tensor, given: Memory) -> Tensor:
        """(1 + m, B)."""
        cross = self.setting.kernel.cross(self.setting.targets.to(rows.dtype), rows)
        return torch.cat([self.posteriors[0].prior_variance(rows)[None], cross])

    def picks(self, first: int, last: int) -> Picks:
        """Also p(A), (b, m)."""
        return Picks(first, super().picks(first, last).frames, [self.target_projections[first:last].clone()])

    def advance(self, numbers: Tensor, columns: Tensor, picks: Picks, sign: float = 1.0) -> Tensor:
        """S falls by p(x)^2, the covariance with a by p(x) p(a)."""
        projection = columns[0]  # (b, B)
        fall = torch.cat([projection.square().sum(0, keepdim=True), picks.extra[0].T @ projection])
        return torch.sub(numbers, fall, alpha=sign)

    def spread(self, scales: Tensor) -> Tensor:
        """A covariance is at most the product of two standard deviations."""
        return torch.cat([scales, (scales * self.prior.to(scales.dtype)[:, None]).sqrt()])

    def _targets_after(self, count: int, like: Tensor) -> Tensor:
        return self.target_variance(count).to(like.dtype)[:, None]  # (m, 1)


class MeanMarginalITL(_PerTarget):
    """Mean over targets of I(f(a); y_x) = -1/2 log(1 - k(x, a)^2 / ((s + r)(s_a + r_A))): each target for itself."""

    name = "mean_marginal_itl"

    def score(self, numbers: Tensor, count: int) -> Tensor:
        """The mean, in nats."""
        shares = self._shares(numbers[0].clamp_min(0), numbers[1:].square(), count)
        # A share of 1 would be a noise-free answer about a noise-free target.
        return -0.5 * torch.log1p(-shares.clamp_max(1 - 1e-15)).mean(0)

    def upper(self, numbers: Tensor, slack: Tensor, count: int) -> Tensor:
        """The largest covariances with the smallest s."""
        reach = (numbers[1:].abs() + slack[1:]).clamp_min(0)
        shares = self._shares((numbers[0] - slack[0]).clamp_min(0), reach.square(), count)
        # Where float32 cannot tell a share from 1, the logarithm has no bound.
        shares = torch.where(shares > 1 - 64 * torch.finfo(shares.dtype).eps, 1.0, shares)
        return -0.5 * torch.log1p(-shares).mean(0)

    def _shares(self, variance: Tensor, squares: Tensor, count: int) -> Tensor:
        """Squared correlation of each answer with each target, (m, B)."""
        targets = self._targets_after(count, variance) + self.setting.target_noise_std**2
        return squares / (targets * (variance + self.noise_variance)).clamp_min(torch.finfo(variance.dtype).tiny)


class CTL(_PerTarget):
    """Mean correlation Cor[f(x), f(a) | picks] with the targets: cosine similarity that knows what was picked."""

    name = "ctl"
    #: A row or target whose variance fell to this share of its prior is known: its correlations are rounding.
    floor = 1e-9

    def start(self, rows: Tensor, given: Memory) -> Tensor:
        """(2 + m, B): the prior variance is kept for the floor."""
        return torch.cat([super().start(rows, given), self.posteriors[0].prior_variance(rows)[None]])

    def advance(self, numbers: Tensor, columns: Tensor, picks: Picks, sign: float = 1.0) -> Tensor:
        """The prior stays."""
        return torch.cat([super().advance(numbers[:-1], columns, picks, sign), numbers[-1:]])

    def score(self, numbers: Tensor, count: int) -> Tensor:
        """Between -1 and 1."""
        scale = self._scale(numbers[0], numbers[-1], count)  # (m, B)
        return (numbers[1:-1] / scale).mean(0)

    def upper(self, numbers: Tensor, slack: Tensor, count: int) -> Tensor:
        """The largest covariances with the smallest s where they are positive; never above 1."""
        reach = numbers[1:-1] + slack[1:-1]
        low = self._scale(numbers[0] - slack[0], numbers[-1], count)
        high = self._scale(numbers[0] + slack[0], numbers[-1], count)
        return torch.where(reach > 0, reach / low, reach / high).mean(0)

    def spread(self, scales: Tensor) -> Tensor:
        """The prior is as exact as the variance."""
        return torch.cat([super().spread(scales), scales])

    def _scale(self, variance: Tensor, prior: Tensor, count: int) -> Tensor:
        rows = variance.maximum(self.floor * prior).clamp_min(torch.finfo(variance.dtype).tiny)
        targets = self._targets_after(count, variance).maximum(self.floor * self.prior.to(variance.dtype)[:, None])
        return (rows * targets.clamp_min(torch.finfo(variance.dtype).tiny)).sqrt()

    def rounding(self, largest: float) -> float:
        """A correlation near the floor has lost half of its digits, and more where variances fall to that of the
        noise.
        """
        return 1e-9 + super().rounding(largest)


OBJECTIVES: dict[str, Any] = {kind.name: kind for kind in (ITL, VTL, MeanMarginalITL, CTL, Undirected)}
