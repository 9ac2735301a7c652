"""The steps of many selections at once: searched in float32 by bounds, proved in float64, or taken in float64.

Numbers of B targets stand side by side. `itl_hf.search.per_target` says when which is used, and from what it is taken.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.kernels import Kernel
from itl_hf.search.batched_kernel import Pairs
from itl_hf.search.greedy import RELATIVE_TIE
from itl_hf.search.nearest_rows import PoolRows

#: Candidates of each step that are computed exactly.
FEW = 3
#: Float32 scores so close are taken for equal rows, of which the first is picked; the proof tells whether they are.
CLOSE = 1e-6


@dataclass(frozen=True)
class PerTargetRequest:
    """What is asked of each target's selection.

    Args:
        kernel (`Kernel`):
            Covariance function on prepared features.
        noise_variance (`float`):
            Of the picks' answers. Positive.
        num_examples (`int`):
            Picks for each target.
        replace (`bool`):
            Whether a row may be picked again.
    """

    kernel: Kernel
    noise_variance: float
    num_examples: int
    replace: bool


@dataclass(frozen=True)
class Trace:
    """What the search in float32 notes of B targets at each of n steps.

    Args:
        places (`Tensor`):
            (B, n) the picks, as places among the candidates.
        few (`Tensor`):
            (B, n, FEW) the candidates with the largest bounds.
        free (`Tensor`):
            (B, n, FEW) whether these could be picked.
        rest (`Tensor`):
            (B, n) the largest bound of all others.
        answer (`Tensor`):
            (B, n, FEW) variance of the answers of the few, float32.
        cross (`Tensor`):
            (B, n, FEW) covariance of the few with the target, float32.
    """

    places: Tensor
    few: Tensor
    free: Tensor
    rest: Tensor
    answer: Tensor
    cross: Tensor


def search(rows: Tensor, targets: Tensor, request: PerTargetRequest, error: float) -> Trace:
    """Greedy steps by float32 bounds.

    Args:
        rows (`Tensor`):
            (B, K, d) float32 candidates.
        targets (`Tensor`):
            (B, d) float64.
        request (`PerTargetRequest`):
            The rest.
        error (`float`):
            How far float32 may be off, relative to prior variances.
    """
    count, breadth = rows.shape[:2]
    each, noise_variance = torch.arange(count, device=rows.device), request.noise_variance
    pairs = Pairs(request.kernel)
    prior = request.kernel.diagonal(rows.flatten(0, 1)).view(count, breadth)
    deviation = (prior * request.kernel.diagonal(targets)[:, None].float()).sqrt()
    rows = pairs.ready(rows)
    cross = pairs(pairs.ready(targets[:, None].float()), rows)[:, 0]  # (B, K)
    scale, reach = prior + noise_variance, deviation * error
    answer = scale * (1 - error)  # lower bounds of the variances of the rows' answers, (B, K)
    projections = rows.new_empty(count, request.num_examples, breadth)
    gone = torch.zeros(count, breadth, dtype=torch.bool, device=rows.device)
    notes: list[tuple[Tensor, ...]] = []
    for step in range(request.num_examples):
        bounds = cross.abs().add_(reach).square_().div_(answer.clamp_min(noise_variance)).masked_fill_(gone, -1.0)
        best, few = bounds.nan_to_num_(nan=torch.inf).topk(FEW + 1)
        rest, best, few = best[:, -1], best[:, :-1], few[:, :-1]
        place = few.masked_fill(best < best[:, :1] * (1 - CLOSE), breadth).amin(1)  # (B,)
        # The numbers themselves, without the bounds' margins.
        here = answer.gather(1, few) + error * scale.gather(1, few)
        notes.append((place, few, best >= 0, rest, here, cross.gather(1, few)))
        pivot = (answer[each, place] + error * scale[each, place]).clamp_min_(noise_variance).sqrt_()[:, None]
        toward = cross[each, place][:, None] / pivot
        column = pairs(rows[each, place][:, None], rows)  # (B, 1, K)
        known = projections[:, :step]
        if step:
            column = torch.baddbmm(column, known[each, :, place][:, None], known, alpha=-1)
        projection = torch.div(column[:, 0], pivot, out=projections[:, step])
        answer.addcmul_(projection, projection, value=-1)
        cross.addcmul_(projection, toward, value=-1)
        if not request.replace:
            gone[each, place] = True
    return Trace(*(torch.stack(part, dim=1) for part in zip(*notes, strict=True)))


@dataclass(frozen=True)
class _Exact:
    """Float64 numbers of the few of each step, given the picks before it.

    Args:
        prior (`Tensor`):
            (B, n, FEW) variance before any pick.
        target_prior (`Tensor`):
            (B,).
        variance (`Tensor`):
            (B, n, FEW).
        cross (`Tensor`):
            (B, n, FEW) covariance with the target.
        failed (`Tensor`):
            (B,) whether rounding was larger than the noise.
    """

    prior: Tensor
    target_prior: Tensor
    variance: Tensor
    cross: Tensor
    failed: Tensor


def prove(
    trace: Trace, rows: PoolRows, numbers: Tensor, targets: Tensor, request: PerTargetRequest
) -> tuple[Tensor, Tensor, Tensor]:
    """The picks' gains (B, n), how far float32 was off (B,), and whether the picks are right if no other row was off by
    more (B,).
    """
    at = (trace.few == trace.places[:, :, None]).byte().argmax(2, keepdim=True)  # (B, n, 1) the pick among the few
    exact = _exactly(at, rows.exact(numbers.gather(1, trace.few.flatten(1))), targets, request)
    error = (trace.answer - exact.variance - request.noise_variance).abs() / (exact.prior + request.noise_variance)
    deviation = (exact.prior * exact.target_prior[:, None, None]).sqrt()
    error = error.maximum((trace.cross - exact.cross).abs() / deviation)
    slack = rounding(exact.prior.flatten(1), exact.target_prior, request.noise_variance)[:, None]
    score, limit = scores(exact.variance, exact.cross, trace.free, slack, request.noise_variance)
    first = trace.few.masked_fill(score < limit, numbers.shape[1]).amin(2)  # ties go to the lowest row number
    limit = limit[:, :, 0] - limit[:, :, 0].abs() * 1e-6  # lowered by what float32 loses in the comparison itself
    sure = ((first == trace.places) & (trace.rest < limit)).all(1) & ~exact.failed
    off = error.nan_to_num(nan=0.0, posinf=torch.inf).masked_fill(~trace.free, 0.0).flatten(1).amax(1)
    return score.take_along_dim(at, 2)[:, :, 0], off, sure


def _exactly(at: Tensor, rows: Tensor, targets: Tensor, request: PerTargetRequest) -> _Exact:
    """Numbers of the few of all steps, (B, n FEW, d), of which the pick of each step is at (B, n, 1)."""
    count, steps, few = len(at), at.shape[1], rows.shape[1] // at.shape[1]
    pairs = Pairs(request.kernel)
    prior = request.kernel.diagonal(rows.flatten(0, 1)).view(count, steps, few)
    rows = pairs.ready(rows)
    cross = pairs(pairs.ready(targets[:, None]), rows).view(prior.shape)
    of_picks = at[:, :, 0] + few * torch.arange(steps, device=at.device)  # (B, n)
    covariance = pairs(rows.take_along_dim(of_picks[:, :, None], 1), rows)  # (B, n, n FEW)
    answers = covariance.take_along_dim(of_picks[:, None], 2)  # (B, n, n)
    answers.diagonal(dim1=1, dim2=2).copy_(prior.take_along_dim(at, 2)[:, :, 0] + request.noise_variance)
    factor, failed = torch.linalg.cholesky_ex(answers)
    towards = torch.linalg.solve_triangular(factor, cross.take_along_dim(at, 2), upper=False)  # (B, n, 1)
    projections = torch.linalg.solve_triangular(factor, covariance, upper=False).view(count, steps, steps, few)
    # Only the picks before a step count for it.
    projections *= torch.ones(steps, steps, device=at.device).triu(1).to(projections)[:, :, None]
    variance = prior - projections.square().sum(1)
    cross = cross - (projections * towards[:, :, :, None]).sum(1)
    return _Exact(prior, request.kernel.diagonal(targets), variance, cross, failed != 0)


def greedy_in_float64(rows: Tensor, targets: Tensor, request: PerTargetRequest) -> tuple[Tensor, Tensor]:
    """Places and gains of the picks, all in float64, (B, K, d), (B, d) -> (B, n), (B, n)."""
    kernel, each = request.kernel, torch.arange(len(rows), device=rows.device)
    pairs = Pairs(kernel)
    variance = kernel.diagonal(rows.flatten(0, 1)).view(rows.shape[:2])
    slack = rounding(variance, kernel.diagonal(targets), request.noise_variance)
    rows = pairs.ready(rows)
    cross = pairs(pairs.ready(targets[:, None]), rows)[:, 0]
    free = torch.ones_like(cross, dtype=torch.bool)
    projections = rows.new_empty(len(rows), request.num_examples, rows.shape[1])
    places, gains = [], []
    for step in range(request.num_examples):
        score, limit = scores(variance, cross, free, slack, request.noise_variance)
        place = (score >= limit).byte().argmax(1, keepdim=True)  # the first, (B, 1)
        pivot = (variance.gather(1, place).clamp_min_(0) + request.noise_variance).sqrt_()
        column = pairs(rows[each, place[:, 0]][:, None], rows)  # (B, 1, K)
        known = projections[:, :step]
        column = torch.baddbmm(column, known[each, :, place[:, 0]][:, None], known, alpha=-1)
        projection = torch.div(column[:, 0], pivot, out=projections[:, step])
        places.append(place)
        gains.append(score.gather(1, place))
        cross = cross.addcmul(projection, cross.gather(1, place) / pivot, value=-1)
        variance = variance.addcmul(projection, projection, value=-1)
        free.scatter_(1, place, request.replace)
    return torch.cat(places, dim=1), torch.cat(gains, dim=1)


def scores(
    variance: Tensor, cross: Tensor, free: Tensor, slack: Tensor, noise_variance: float
) -> tuple[Tensor, Tensor]:
    """Scores (..., M), and how much counts as equal to the best, (..., 1), as `itl_hf.search.greedy.tie`."""
    score = cross.square().div_(variance.clamp_min(0).add_(noise_variance)).masked_fill_(~free, -torch.inf)
    best = score.amax(-1, keepdim=True)
    return score, best - (best.abs() * (slack + RELATIVE_TIE)).add_(slack)


def rounding(prior: Tensor, target_prior: Tensor, noise_variance: float) -> Tensor:
    """How far two float64 scores may differ by rounding alone, as `VTL.rounding`, (B, K), (B,) -> (B, 1)."""
    return prior.amax(1, keepdim=True) * target_prior[:, None] * (4e-15 / noise_variance)
