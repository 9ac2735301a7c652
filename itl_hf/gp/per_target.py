"""Greedy selection for many targets at once, each with candidates of its own (SIFT's setting: one prompt, its own data).

With one target a, every reading of "the row that tells most about it" picks the same row: VTL's score Cov[f(x), f(a)]^2
/ (Var[f(x)] + r) is the fall of the target's variance, and ITL's gain grows with it. So one search serves both.

Targets are taken in groups, so that an operation serves many of them. In each round, for every target:

1. *Speculate.* A few exact greedy steps in float64 among the few candidates with the largest scores.
2. *Verify.* One float32 matrix product of the picks with all candidates bounds every candidate's score at each step
   (float32's error is measured on the few, whose exact numbers are known). The picks before the first step at which
   another candidate's bound reaches the pick's score stand.

The picks are those of plain float64 greedy among the candidates, whatever the sizes below. Where float32 cannot tell
rows apart (tiny noise), the target is done again in float64 with all of its candidates.

Source: Huebotter, Bongni, Hakimi & Krause, "Efficiently Learning at Test-Time" (SIFT, ICLR 2025), section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.greedy import RELATIVE_TIE
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.nearest import PoolRows

#: Steps of a round, and candidates among which they are speculated: some, and some more for each step.
FIRST_STEPS, MOST_STEPS = 4, 16
FEWEST, FEW_A_STEP = 8, 3
#: Float32 is given up for a target that needs more than this among its few.
MOST_FEW = 256
#: Float32 candidate rows of one group of targets; they should stay in the processor's cache from block to block.
GROUP_BYTES = 16 * 2**20
#: The measured error of float32 is that of a few rows; the others may do worse.
SAFETY = 8.0


@dataclass(frozen=True)
class Request:
    """What is asked of each target's selection.

    Args:
        kernel (`Kernel`): covariance function on prepared features.
        noise_variance (`float`): of the picks' answers. Positive.
        num_examples (`int`): picks for each target.
        replace (`bool`): whether a row may be picked again.
    """

    kernel: Kernel
    noise_variance: float
    num_examples: int
    replace: bool


@dataclass(frozen=True)
class Picked:
    """Picks of several targets.

    Args:
        indices (`Tensor`): (m, n) row numbers in the order picked.
        gains (`Tensor`): (m, n) float64, by how much each pick lowers its target's variance.
        redone (`int`): targets for which float32 did not do.
    """

    indices: Tensor
    gains: Tensor
    redone: int = 0


def greedy_per_target(
    rows: PoolRows,
    candidates: Tensor,
    targets: Tensor,
    request: Request,
    on_targets: Callable[[int], object] | None = None,
) -> Picked:
    """Exact greedy picks for each target among its candidates.

    Args:
        rows (`PoolRows`): the pool.
        candidates (`Tensor`): (m, K) row numbers, ascending for each target.
        targets (`Tensor`): (m, d) prepared target rows, float64.
        request (`Request`): the rest.
        on_targets (`Callable`, *optional*): called with the number of further targets that are done.
    """
    size = max(1, GROUP_BYTES // (candidates.shape[1] * targets.shape[1] * 4))
    indices, gains, redone = [], [], 0
    for numbers, wanted in zip(candidates.split(size), targets.split(size), strict=True):
        group = _Group(rows, numbers, wanted, request)
        group.run()
        indices.append(numbers.gather(1, group.places[:, : request.num_examples]))
        gains.append(group.gains[:, : request.num_examples])
        redone += group.redone
        if on_targets is not None:
            on_targets(len(numbers))
    return Picked(torch.cat(indices), torch.cat(gains), redone)


@dataclass
class _Few:
    """Some candidates of each target, conditioned on its picks so far, float64.

    Args:
        places (`Tensor`): (B, M) places among the candidates, ascending.
        rows (`Tensor`): (B, M, d).
        earlier (`Tensor`): (B, j, M) projections on the picks so far.
        variance (`Tensor`): (B, M).
        cross (`Tensor`): (B, M) covariance with the target.
        open (`Tensor`): (B, M) whether the row may be picked.
        slack (`Tensor`): (B, 1) how far two scores may differ by rounding alone.
    """

    places: Tensor
    rows: Tensor
    earlier: Tensor
    variance: Tensor
    cross: Tensor
    open: Tensor
    slack: Tensor


@dataclass
class _Run:
    """Steps among the few, float64.

    Args:
        chosen (`Tensor`): (B, b) the picks, as places among the few.
        gains (`Tensor`): (B, b) their scores.
        limits (`Tensor`): (B, b) a row with a score of this much ties with the pick, or beats it.
        towards (`Tensor`): (B, b) projections of the target.
        pivots (`Tensor`): (B, b) deviations of the picks' answers.
        projections (`Tensor`): (B, b, M).
        variance (`Tensor`): (B, M) after the steps.
        cross (`Tensor`): (B, M) after the steps.
    """

    chosen: Tensor
    gains: Tensor
    limits: Tensor
    towards: Tensor
    pivots: Tensor
    projections: Tensor
    variance: Tensor
    cross: Tensor


def steps_among(few: _Few, request: Request, steps: int) -> _Run:
    """Exact greedy steps among a few rows of each target."""
    count, breadth = few.places.shape
    each = torch.arange(count, device=few.places.device)
    variance, cross, available = few.variance, few.cross, few.open.clone()
    earlier = few.earlier.shape[1]
    known = torch.cat([few.earlier, few.earlier.new_zeros(count, steps, breadth)], dim=1)
    chosen = few.places.new_empty(count, steps)
    gains, limits, towards, pivots = (few.rows.new_empty(count, steps) for _ in range(4))
    gram = _cross(request.kernel, few.rows, few.rows) if breadth <= MOST_FEW else None
    for step in range(steps):
        answer = variance.clamp_min(0).add_(request.noise_variance)  # (B, M)
        scores = (cross.square() / answer).masked_fill_(~available, -torch.inf)
        best = scores.amax(1, keepdim=True)
        limit = best - best.abs() * (RELATIVE_TIE + few.slack) - few.slack  # as `greedy.tie`
        place = (scores >= limit).byte().argmax(1)  # the first: ties go to the lowest row number
        if gram is None:
            column = _cross(request.kernel, few.rows[each, place][:, None], few.rows)
        else:
            column = gram[each, place][:, None]
        seen = known[:, : earlier + step]
        column = torch.baddbmm(column, seen[each, :, place][:, None], seen, alpha=-1)[:, 0]  # (B, M)
        pivot = answer[each, place].sqrt()
        projection, toward = column / pivot[:, None], cross[each, place] / pivot
        chosen[:, step], gains[:, step], limits[:, step] = place, scores[each, place], limit[:, 0]
        towards[:, step], pivots[:, step], known[:, earlier + step] = toward, pivot, projection
        variance = variance.addcmul(projection, projection, value=-1)
        cross = cross.addcmul(projection, toward[:, None], value=-1)
        available[each, place] = request.replace
    return _Run(chosen, gains, limits, towards, pivots, known[:, earlier:], variance, cross)


class _Group:
    """Several targets with K candidates each, taken through their picks together, each at its own pace.

    Args:
        rows (`PoolRows`): the pool.
        numbers (`Tensor`): (B, K) row numbers of the candidates, ascending.
        targets (`Tensor`): (B, d) float64.
        request (`Request`): the rest.
    """

    def __init__(self, rows: PoolRows, numbers: Tensor, targets: Tensor, request: Request) -> None:
        self.rows, self.numbers, self.targets, self.request = rows, numbers, targets, request
        self.kernel = request.kernel
        self.count, self.breadth = numbers.shape
        self.target_prior = self.kernel.diagonal(targets)  # (B,)
        room = request.num_examples + MOST_STEPS
        self.each = torch.arange(self.count, device=numbers.device)
        self.done = torch.zeros_like(self.each)  # (B,) picks so far
        self.places = numbers.new_zeros(self.count, room)  # the picks, as places among the candidates
        self.gains = targets.new_zeros(self.count, room)
        self.towards = targets.new_zeros(self.count, room)  # projections of the targets on the picks
        self.free = torch.ones(
            self.count, self.breadth + 1, dtype=torch.bool, device=numbers.device
        )  # and one for none
        # With finite features projections are inner products with directions; otherwise they follow from the rows
        # picked and the Cholesky factor of their answers (`itl_hf.gp.posterior`).
        self.directions = targets.new_zeros(self.count, room, targets.shape[1])
        self.factor = torch.eye(0 if self.kernel.linear else room).to(targets).repeat(self.count, 1, 1)
        self.redone = 0

    def run(self) -> None:
        """All steps."""
        if self.breadth <= MOST_FEW // 2:
            self._without_bounds(self.each)
            return
        self.bounds = _Bounds(self.rows.coarse(self.numbers), self.targets, self.target_prior, self.request)
        hopeless = torch.zeros_like(self.done, dtype=torch.bool)
        steps, few = FIRST_STEPS, 0
        while int(self.done.min()) < (wanted := self.request.num_examples):
            few = max(few, FEWEST + FEW_A_STEP * steps)
            stands, open_ = self._round(steps, min(few, self.breadth)), self.done < wanted
            stuck = open_ & (stands == 0)
            if few > MOST_FEW:
                hopeless |= stuck
            self.done += torch.minimum(stands, wanted - self.done)
            self.done[hopeless] = wanted
            stood = float(stands.sum()) / max(1, int(open_.sum()))
            few = 2 * few if stuck.any() else few // 2
            steps = max(1, min(2 * steps, MOST_STEPS) if stood > 0.9 * steps else min(steps, round(1.25 * stood)))
        self.redone = int(hopeless.sum())
        for one in hopeless.nonzero():
            self._without_bounds(one)

    def _without_bounds(self, which: Tensor) -> None:
        """All steps of some targets, exact among all of their candidates."""
        self.free[which] = True
        self.done[which] = 0
        places = torch.arange(self.breadth, device=which.device).expand(len(which), -1)
        run = steps_among(self._few(which, places, 0), self.request, self.request.num_examples)
        self.places[which, : run.chosen.shape[1]] = run.chosen
        self.gains[which, : run.chosen.shape[1]] = run.gains

    def _round(self, steps: int, breadth: int) -> Tensor:
        """Speculates and verifies some steps of each target; returns how many of them stand, (B,)."""
        few = self._few(self.each, self.bounds.largest(self.free[:, :-1], breadth), int(self.done.max()))
        run = steps_among(few, self.request, steps)
        ahead = self._ahead(few, run)
        columns = self.bounds.columns_of(ahead)  # (B, b, K)
        safe = self.bounds.verify(few, run, columns, self.free[:, :-1])  # (B, b)
        stands = safe.cumprod(1).sum(1)
        stands = stands.minimum(self.request.num_examples - self.done)
        self._keep(few, run, ahead, stands)
        self.bounds.advance(ahead, columns, run.towards, stands)
        return stands

    def _few(self, which: Tensor, places: Tensor, picks: int) -> _Few:
        """Candidates at these places, conditioned on the picks so far, of which no target has more than `picks`."""
        rows = self.rows.exact(self.numbers[which].gather(1, places))  # (B, M, d)
        earlier = self._project(which, rows, picks)
        prior = self.kernel.diagonal(rows.flatten(0, 1)).view(places.shape)
        cross = _cross(self.kernel, self.targets[which, None], rows)
        cross = torch.baddbmm(cross, self.towards[which, None, :picks], earlier, alpha=-1)[:, 0]
        slack = 4e-15 / self.request.noise_variance * prior.amax(1) * self.target_prior[which]
        variance = prior - earlier.square().sum(1)
        return _Few(places, rows, earlier, variance, cross, self.free[which].gather(1, places), slack[:, None])

    def _project(self, which: Tensor, rows: Tensor, picks: int) -> Tensor:
        """Projections of rows on the picks, (B, M, d) -> (B, picks, M); 0 beyond a target's last."""
        if self.kernel.linear:
            return torch.bmm(self._of(self.directions, which)[:, :picks], rows.mT)
        cross = _cross(self.kernel, self._of(self.directions, which)[:, :picks], rows)
        earlier = torch.linalg.solve_triangular(self.factor[which, :picks, :picks], cross, upper=False)
        beyond = torch.arange(picks, device=which.device) >= self.done[which, None]
        return earlier.masked_fill_(beyond[:, :, None], 0.0)

    def _of(self, tensor: Tensor, which: Tensor) -> Tensor:
        return tensor if which is self.each else tensor[which]

    def _ahead(self, few: _Few, run: _Run) -> _Ahead:
        """What it takes to project any row on the picks of a run."""
        place = self.each[:, None]
        rows = few.rows[place, run.chosen]  # (B, b, d)
        earlier = few.earlier.mT[place, run.chosen]  # (B, b, j)
        factor = run.projections.mT[place, run.chosen].tril(-1) + torch.diag_embed(run.pivots)  # (B, b, b)
        if self.kernel.linear:
            rest = torch.baddbmm(rows, earlier, self.directions[:, : earlier.shape[2]], alpha=-1)
            rows = torch.linalg.solve_triangular(factor, rest, upper=False)
        return _Ahead(rows, earlier, factor, self.done[:, None] + torch.arange(factor.shape[1], device=place.device))

    def _keep(self, few: _Few, run: _Run, ahead: _Ahead, stands: Tensor) -> None:
        """Writes down the picks that stand."""
        place, picks = self.each[:, None], few.earlier.shape[1]
        fallen = torch.arange(run.chosen.shape[1], device=place.device) >= stands[:, None]  # (B, b)
        chosen = few.places.gather(1, run.chosen)
        self.places[place, ahead.where] = chosen
        self.gains[place, ahead.where] = run.gains
        self.towards[place, ahead.where] = run.towards.masked_fill(fallen, 0.0)
        self.directions[place, ahead.where] = ahead.rows.masked_fill(fallen[:, :, None], 0.0)
        if not self.kernel.linear:
            at = ahead.where[:, :, None]
            rows = torch.eye(self.factor.shape[1]).to(self.factor)[ahead.where]  # (B, b, room)
            self.factor[place, ahead.where] = rows
            kept = ~fallen[:, :, None]
            self.factor[place[:, None], at, torch.arange(picks, device=place.device)] = ahead.earlier * kept
            inner = torch.where(kept & kept.mT, ahead.factor, torch.eye(fallen.shape[1]).to(ahead.factor))
            self.factor[place[:, None], at, ahead.where[:, None]] = inner
        if not self.request.replace:
            self.free.scatter_(1, chosen.masked_fill(fallen, self.breadth), False)


@dataclass
class _Ahead:
    """Picks of a run, for the projections of other rows.

    Args:
        rows (`Tensor`): (B, b, d) directions for finite features, otherwise the rows picked.
        earlier (`Tensor`): (B, b, j) their projections on earlier picks.
        factor (`Tensor`): (B, b, b) lower triangular.
        where (`Tensor`): (B, b) how many picks of that target come before each.
    """

    rows: Tensor
    earlier: Tensor
    factor: Tensor
    where: Tensor


class _Bounds:
    """Float32 numbers of all candidates of a group, and which of them may reach a score.

    Args:
        rows (`Tensor`): (B, K, d) float32.
        targets (`Tensor`): (B, d) float64.
        target_prior (`Tensor`): (B,) float64.
        request (`Request`): the rest.
    """

    def __init__(self, rows: Tensor, targets: Tensor, target_prior: Tensor, request: Request) -> None:
        self.rows, self.kernel, self.noise_variance = rows, request.kernel, request.noise_variance
        count, breadth = rows.shape[:2]
        self.variance = request.kernel.diagonal(rows.flatten(0, 1)).view(count, breadth)
        self.cross = _cross(request.kernel, targets[:, None].float(), rows)[:, 0]  # (B, K)
        room = 0 if request.kernel.linear else request.num_examples + MOST_STEPS
        self.columns = rows.new_zeros(count, room, breadth)  # projections on the picks
        # What an error in variance or cross is relative to, and how large it has been, (2, B, K) and (2, B, 1).
        deviation = (self.variance * target_prior[:, None].float()).sqrt()
        self.scales = torch.stack([self.variance, deviation]).clamp_min_(torch.finfo(torch.float32).tiny)
        self.errors = torch.full((2, count, 1), torch.finfo(torch.float32).eps, device=rows.device)

    def largest(self, free: Tensor, breadth: int) -> Tensor:
        """Places of the candidates with the largest scores now, (B, M) ascending."""
        scores = self.cross.square() / (self.variance.clamp_min(0) + self.noise_variance)
        scores = scores.nan_to_num_(nan=torch.inf).masked_fill_(~free, -torch.inf)
        return scores.topk(breadth, sorted=False).indices.sort(1).values

    def columns_of(self, ahead: _Ahead) -> Tensor:
        """Projections of all candidates on the picks of a run, (B, b, K)."""
        cross = _cross(self.kernel, ahead.rows.float(), self.rows)
        if self.kernel.linear:
            return cross
        rest = torch.baddbmm(cross, ahead.earlier.float(), self.columns[:, : ahead.earlier.shape[2]], alpha=-1)
        return torch.linalg.solve_triangular(ahead.factor.float(), rest, upper=False)

    def verify(self, few: _Few, run: _Run, columns: Tensor, free: Tensor) -> Tensor:
        """Whether no candidate beside the few may reach the score of each of the picks, (B, b)."""
        self._measure(few, run, columns)
        slack = self.errors * SAFETY * self.scales  # (2, B, K)
        answer, cross = self.variance - slack[0] + self.noise_variance, self.cross.clone()
        others = free.scatter(1, few.places, False)
        # Lowered by what float32 loses in the comparison itself.
        limits = (run.limits - run.limits.abs() * 1e-6).float()
        towards = run.towards.float()
        safe = torch.empty_like(run.chosen, dtype=torch.bool)
        for step in range(columns.shape[1]):
            column = columns[:, step]
            reach = cross.abs().add_(slack[1]).square_()
            below = reach < answer.clamp_min(self.noise_variance).mul_(limits[:, step, None])
            safe[:, step] = (below | ~others).all(1)  # a NaN is not below
            answer.addcmul_(column, column, value=-1)
            cross.addcmul_(column, towards[:, step, None], value=-1)
        return safe

    def advance(self, ahead: _Ahead, columns: Tensor, towards: Tensor, stands: Tensor) -> None:
        """The first `stands` (B,) picks of a run stand."""
        steps = torch.arange(columns.shape[1], device=stands.device)
        columns = columns.masked_fill_((steps >= stands[:, None])[:, :, None], 0.0)
        self.cross = torch.baddbmm(self.cross[:, None], towards.float()[:, None], columns, alpha=-1)[:, 0]
        if not self.kernel.linear:
            self.columns[torch.arange(len(stands), device=stands.device)[:, None], ahead.where] = columns
        self.variance = self.variance - columns.square().sum(1)

    def _measure(self, few: _Few, run: _Run, columns: Tensor) -> None:
        """Notes how far the few rows' numbers are from the exact ones, before and after a run."""
        here = columns.gather(2, few.places[:, None].expand(-1, columns.shape[1], -1)).double()
        variance, cross = self.variance.gather(1, few.places), self.cross.gather(1, few.places)
        before = torch.stack([variance - few.variance, cross - few.cross])  # (2, B, M)
        fall = torch.stack([here.square().sum(1), torch.bmm(run.towards[:, None], here)[:, 0]])
        after = torch.stack([variance - fall[0] - run.variance, cross - fall[1] - run.cross])
        scales = self.scales.gather(2, few.places.expand(2, -1, -1))
        error = torch.maximum(before.abs(), after.abs()) / scales
        self.errors = self.errors.maximum(error.amax(2, keepdim=True).float())


def _cross(kernel: Kernel, rows: Tensor, others: Tensor) -> Tensor:
    """K between sets of rows of each target, (B, P, d), (B, Q, d) -> (B, P, Q)."""
    if kernel.linear:
        return torch.bmm(rows, others.mT)
    return torch.stack([kernel.cross(left, right) for left, right in zip(rows, others, strict=True)])
