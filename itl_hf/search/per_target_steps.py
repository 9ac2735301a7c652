"""Steps of the selections of many targets at once: search in float32 by bounds, proof in float64, and search in
float64.

The statistics of B targets are kept side by side. `itl_hf.search.per_target` explains when each is used.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.kernels import Kernel
from itl_hf.gp.quality import Quality, answer_noise
from itl_hf.search.batched_kernel import BatchedKernel
from itl_hf.search.exactness import RELATIVE_TIE, ROUNDING
from itl_hf.search.finite import is_finite
from itl_hf.search.nearest_rows import PoolRows

#: Candidates of each step whose scores are computed exactly.
FEW = 3
#: Rows whose float32 scores are so close are assumed to be equal, and the first is picked; the proof checks it.
CLOSE = 1e-6


@dataclass(frozen=True)
class PerTargetRequest:
    """The options of each target's selection.

    Args:
        kernel (`Kernel`):
            Covariance function on prepared features.
        noise_variance (`float`):
            Variance of the noise on the answers of picks of quality 1. Positive.
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
    """What the search in float32 recorded at each of n steps, for B targets.

    Args:
        positions (`Tensor`):
            (B, n) the picks, as positions among the candidates.
        few (`Tensor`):
            (B, n, FEW) the candidates with the largest bounds.
        is_free (`Tensor`):
            (B, n, FEW) whether these could be picked.
        rest_bound (`Tensor`):
            (B, n) the largest bound of all others.
        answer_variance (`Tensor`):
            (B, n, FEW) variance of the answers of the few, noise included, float32.
        cross (`Tensor`):
            (B, n, FEW) covariance of the few with the target, float32.
    """

    positions: Tensor
    few: Tensor
    is_free: Tensor
    rest_bound: Tensor
    answer_variance: Tensor
    cross: Tensor


def search(rows: Tensor, targets: Tensor, request: PerTargetRequest, error: float, quality: Quality = 1.0) -> Trace:
    """Takes greedy steps by float32 bounds.

    Args:
        rows (`Tensor`):
            (B, K, d) float32 candidates.
        targets (`Tensor`):
            (B, d) float64.
        request (`PerTargetRequest`):
            Kernel, noise and number of picks.
        error (`float`):
            How far float32 may be off, relative to prior variances.
        quality (`Quality`, *optional*, defaults to 1.0):
            (B, K), that of the candidates.
    """
    count, breadth = rows.shape[:2]
    each, noise = torch.arange(count, device=rows.device), answer_noise(request.noise_variance, quality, rows.dtype)
    batched_kernel = BatchedKernel(request.kernel)
    prior = request.kernel.diagonal(rows.flatten(0, 1)).view(count, breadth)
    deviation = (prior * request.kernel.diagonal(targets)[:, None].float()).sqrt()
    rows = batched_kernel.prepare(rows)
    cross = batched_kernel(batched_kernel.prepare(targets[:, None].float()), rows)[:, 0]  # (B, K)
    scale, reach = prior + noise, deviation * error
    answer_variance = scale * (1 - error)  # lower bounds of the variances of the rows' answers, (B, K)
    projections = rows.new_empty(count, request.num_examples, breadth)
    is_closed = torch.zeros(count, breadth, dtype=torch.bool, device=rows.device)
    records: list[tuple[Tensor, ...]] = []
    for step in range(request.num_examples):
        bounds = cross.abs().add_(reach).square_().div_(answer_variance.clamp_min(noise)).masked_fill_(is_closed, -1.0)
        best, few = bounds.nan_to_num_(nan=torch.inf).topk(FEW + 1)
        rest, best, few = best[:, -1], best[:, :-1], few[:, :-1]
        position = few.masked_fill(best < best[:, :1] * (1 - CLOSE), breadth).amin(1)  # (B,)
        # The variances themselves, without the bounds' margins.
        variance = answer_variance.gather(1, few) + error * scale.gather(1, few)
        records.append((position, few, best >= 0, rest, variance, cross.gather(1, few)))
        pivot = (
            (answer_variance[each, position] + error * scale[each, position])
            .clamp_min_(noise[each, position] if isinstance(noise, Tensor) else noise)
            .sqrt_()[:, None]
        )
        toward = cross[each, position][:, None] / pivot
        column = batched_kernel(rows[each, position][:, None], rows)  # (B, 1, K)
        earlier = projections[:, :step]
        if step:
            column = torch.baddbmm(column, earlier[each, :, position][:, None], earlier, alpha=-1)
        projection = torch.div(column[:, 0], pivot, out=projections[:, step])
        answer_variance.addcmul_(projection, projection, value=-1)
        cross.addcmul_(projection, toward, value=-1)
        if not request.replace:
            is_closed[each, position] = True
    return Trace(*(torch.stack(part, dim=1) for part in zip(*records, strict=True)))


@dataclass(frozen=True)
class _Exact:
    """Float64 statistics of the few of each step, given the picks before it.

    Args:
        prior (`Tensor`):
            (B, n, FEW) variance before any pick.
        target_prior (`Tensor`):
            (B,) variance of the targets before any pick.
        variance (`Tensor`):
            (B, n, FEW) variance given the picks before.
        cross (`Tensor`):
            (B, n, FEW) covariance with the target.
        is_singular (`Tensor`):
            (B,) whether rounding was larger than the noise.
    """

    prior: Tensor
    target_prior: Tensor
    variance: Tensor
    cross: Tensor
    is_singular: Tensor


def prove(
    trace: Trace, rows: PoolRows, indices: Tensor, targets: Tensor, request: PerTargetRequest
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes the few of every step exactly.

    Returns:
        `tuple`: The picks' gains (B, n), the error of float32 on the few (B,), and whether the picks are right provided
            that no other row had a larger error (B,).
    """
    at = (trace.few == trace.positions[:, :, None]).byte().argmax(2, keepdim=True)  # (B, n, 1) the pick among the few
    few = indices.gather(1, trace.few.flatten(1))  # (B, n FEW)
    quality = rows.pool.quality_of(few.view(trace.few.shape))
    noise = answer_noise(request.noise_variance, quality, targets.dtype)  # (B, n, FEW)
    exact = _exact_stats(at, rows.exact(few), targets, request, noise)
    error = (trace.answer_variance - exact.variance - noise).abs() / (exact.prior + noise)
    deviation = (exact.prior * exact.target_prior[:, None, None]).sqrt()
    error = error.maximum((trace.cross - exact.cross).abs() / deviation)
    scales = exact.prior, exact.target_prior[:, None, None]
    score, is_best, limit = scores(exact.variance, exact.cross, trace.is_free, scales, noise)
    first = trace.few.masked_fill(~is_best, indices.shape[1]).amin(2)  # ties go to the lowest row number
    limit = limit - limit.abs() * 1e-6  # lowered by what float32 loses in the comparison itself
    is_proved = ((first == trace.positions) & (trace.rest_bound < limit)).all(1) & ~exact.is_singular
    max_error = error.nan_to_num(nan=0.0, posinf=torch.inf).masked_fill(~trace.is_free, 0.0).flatten(1).amax(1)
    return score.take_along_dim(at, 2)[:, :, 0], max_error, is_proved


def _exact_stats(at: Tensor, rows: Tensor, targets: Tensor, request: PerTargetRequest, noise: Quality) -> _Exact:
    """Computes the statistics of the few of all steps, (B, n FEW, d), where the pick of each step is at (B, n, 1) and
    `noise` is the variance of their answers' noise, (B, n, FEW).
    """
    count, steps, few = len(at), at.shape[1], rows.shape[1] // at.shape[1]
    batched_kernel = BatchedKernel(request.kernel)
    prior = request.kernel.diagonal(rows.flatten(0, 1)).view(count, steps, few)
    rows = batched_kernel.prepare(rows)
    cross = batched_kernel(batched_kernel.prepare(targets[:, None]), rows).view(prior.shape)
    of_picks = at[:, :, 0] + few * torch.arange(steps, device=at.device)  # (B, n)
    covariance = batched_kernel(rows.take_along_dim(of_picks[:, :, None], 1), rows)  # (B, n, n FEW)
    answers = covariance.take_along_dim(of_picks[:, None], 2)  # (B, n, n)
    answers.diagonal(dim1=1, dim2=2).copy_((prior + noise).take_along_dim(at, 2)[:, :, 0])
    factor, is_singular = torch.linalg.cholesky_ex(answers)
    towards = torch.linalg.solve_triangular(factor, cross.take_along_dim(at, 2), upper=False)  # (B, n, 1)
    projections = torch.linalg.solve_triangular(factor, covariance, upper=False).view(count, steps, steps, few)
    # A step depends only on the picks before it.
    projections *= torch.ones(steps, steps, device=at.device).triu(1).to(projections)[:, :, None]
    variance = prior - projections.square().sum(1)
    cross = cross - (projections * towards[:, :, :, None]).sum(1)
    return _Exact(prior, request.kernel.diagonal(targets), variance, cross, is_singular != 0)


def greedy_in_float64(
    rows: Tensor, targets: Tensor, request: PerTargetRequest, quality: Quality = 1.0
) -> tuple[Tensor, Tensor]:
    """Takes greedy steps in float64; returns positions and gains of the picks, (B, K, d), (B, d) -> (B, n), (B, n).

    `quality` is that of the candidates, (B, K).

    Raises:
        `FloatingPointError`: If a number is not finite.
    """
    kernel, each = request.kernel, torch.arange(len(rows), device=rows.device)
    batched_kernel = BatchedKernel(kernel)
    variance = kernel.diagonal(rows.flatten(0, 1)).view(rows.shape[:2])
    scales = variance, kernel.diagonal(targets)[:, None]
    noise = answer_noise(request.noise_variance, quality, rows.dtype)
    rows = batched_kernel.prepare(rows)
    cross = batched_kernel(batched_kernel.prepare(targets[:, None]), rows)[:, 0]
    if not is_finite([variance, cross, scales[1]]):
        raise FloatingPointError("before the first pick")
    is_free = torch.ones_like(cross, dtype=torch.bool)
    projections = rows.new_empty(len(rows), request.num_examples, rows.shape[1])
    positions, gains = [], []
    for step in range(request.num_examples):
        score, is_best, _ = scores(variance, cross, is_free, scales, noise)
        position = is_best.byte().argmax(1, keepdim=True)  # the first, (B, 1)
        pick_noise = noise.gather(1, position) if isinstance(noise, Tensor) else noise
        pivot = (variance.gather(1, position).clamp_min_(0) + pick_noise).sqrt_()
        column = batched_kernel(rows[each, position[:, 0]][:, None], rows)  # (B, 1, K)
        earlier = projections[:, :step]
        column = torch.baddbmm(column, earlier[each, :, position[:, 0]][:, None], earlier, alpha=-1)
        projection = torch.div(column[:, 0], pivot, out=projections[:, step])
        positions.append(position)
        gains.append(score.gather(1, position))
        cross = cross.addcmul(projection, cross.gather(1, position) / pivot, value=-1)
        variance = variance.addcmul(projection, projection, value=-1)
        if not is_finite([variance, cross]):
            raise FloatingPointError(f"after pick {step}")
        is_free.scatter_(1, position, request.replace)
    return torch.cat(positions, dim=1), torch.cat(gains, dim=1)


def scores(
    variance: Tensor, cross: Tensor, is_free: Tensor, scales: tuple[Tensor, Tensor], noise: Quality
) -> tuple[Tensor, Tensor, Tensor]:
    """Computes scores, and which of them equal the best up to rounding, as `itl_hf.search.exactness.first_best`.

    Args:
        variance (`Tensor`):
            (..., M) variance of the rows.
        cross (`Tensor`):
            (..., M) their covariance with the target.
        is_free (`Tensor`):
            (..., M) bool.
        scales (`tuple[Tensor, Tensor]`):
            (..., M) and (..., 1), variances of the rows and of the target before any pick.
        noise (`Quality`):
            (..., M) variance of the noise.

    Returns:
        `tuple`: (..., M) scores, (..., M) bool, and (...,) the least score that may equal the best.
    """
    answers = variance.clamp_min(0).add_(noise)
    score = cross.square().div_(answers).masked_fill_(~is_free, -torch.inf)
    prior, target_prior = scales
    reach = cross.abs().add_((prior * target_prior).sqrt_(), alpha=ROUNDING)
    least_answers = variance.sub(prior, alpha=ROUNDING).clamp_min_(0).add_(noise)
    margin = (
        reach.square_().div_(least_answers).sub_(score).masked_fill_(~is_free, 0.0).add_(score.abs() * RELATIVE_TIE)
    )
    best, at = score.max(-1, keepdim=True)
    margin_of_best = margin.gather(-1, at)
    return score, is_free & (score >= best - margin.minimum(margin_of_best)), (best - margin_of_best)[..., 0]
