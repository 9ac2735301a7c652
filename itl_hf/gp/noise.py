"""The rule for the observation noise of `noise_std="auto"`. It needs no labels.

The number of picks that a cluster of targets receives before ITL turns to other rows grows in proportion to the noise
variance. If the noise is too small, ITL runs out of things to learn and picks rows that are off the task; if it is too
large, ITL picks only the nearest rows of the commonest task. The rule sets the noise so that every direction that the
targets span receives its share of the picks.

Derivation. Let the rows of a cluster have correlation r with each other and with their target, and rows outside it
correlation q with the target and none with the cluster's rows. After k picks from the cluster, the cluster's next row
has covariance r (1 - r + noise) / (1 - r + noise + k r) with the target, where `noise` is the variance; an outside row
still has q. So rows of the cluster are picked while k < (noise + 1 - r)(1 / q - 1 / r). That should be the cluster's
share of the n picks, k = n / rank (picks per direction), with the effective rank of the targets under the kernel as the
number of clusters.

- *Linear, cosine.* The covariance with unrelated rows is 0 on average, but not for the nearest of many. q = r / 2 is
  used for those; with r near 1 that gives noise = n / rank.
- *RBF, Laplace.* Unrelated rows are orthogonal, q = k(cos = 0), and the rows of a cluster have r near 1: noise =
  (n / rank) / (1 / q - 1). A shorter lengthscale needs less noise, so kernel and noise are not two settings for the
  same thing. The noise is never below 1, where one answer halves the variance at its own row: with less, a few picks
  remove nearly all of a target's variance and the next ones are off the task.
- *Exponential cosine.* Unrelated rows are orthogonal with covariance 0, so the rival of a cluster's row is, as for the
  linear kernel, the nearest of many: noise = `EXPONENTIAL_SHARE` n / rank, and never below 1. The share is measured
  (`recipes/benchmarks`): the exponential makes that row's covariance smaller than half of the cluster's.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itl_hf.gp.finite_kernel import check_finite, target_names
from itl_hf.gp.kernels import RBF, Cosine, ExponentialCosine, Kernel, Laplace
from itl_hf.gp.many_targets import Pivots, pivot_targets, stand_ins
from itl_hf.gp.quality import scale_gram, scale_rows

#: The least noise of kernels that fall with distance, and the noise of kernels about which nothing is known.
UNIT_NOISE_STD = 1.0
#: Noise variance of `ExponentialCosine` for each pick per target direction.
EXPONENTIAL_SHARE = 0.25
#: The least correlation that a rival may have, and the most noise variance for each pick per direction, where rows are
#: not nearer to the targets than rivals are.
LEAST_RIVAL = 1e-3
MOST_NOISE_PER_PICK = 100.0


def auto_noise_std(
    kernel: Kernel, targets: Tensor, num_examples: int, weights: Tensor | None = None, rank: float | None = None
) -> tuple[float, str]:
    """Computes the noise standard deviation for `noise_std="auto"`, and states the rule in words.

    Args:
        kernel (`Kernel`):
            Covariance function of the selection.
        targets (`Tensor`):
            (m, d) prepared target rows.
        num_examples (`int`):
            Number of picks.
        weights (`Tensor`, *optional*):
            (m,) weights of the targets.
        rank (`float`, *optional*):
            Effective rank of the targets, where it was computed before.

    Example:
        >>> import torch
        >>> auto_noise_std(RBF(0.6), torch.eye(4, dtype=torch.float64), 4)[0]  # one pick each: the least noise
        1.0
    """
    if not (kernel.linear or isinstance(kernel, Cosine | RBF | ExponentialCosine | Laplace)):
        return UNIT_NOISE_STD, "auto: 1, since nothing is known about this kernel"
    rank = effective_rank(targets, kernel, weights) if rank is None else rank
    picks_per_direction = math.sqrt(num_examples / rank)
    if kernel.linear or isinstance(kernel, Cosine):
        return picks_per_direction, "auto: sqrt(num_examples / effective rank of the targets)"
    if isinstance(kernel, ExponentialCosine):
        noise_std = max(UNIT_NOISE_STD, math.sqrt(EXPONENTIAL_SHARE) * picks_per_direction)
        return noise_std, f"auto: sqrt({EXPONENTIAL_SHARE} num_examples / effective rank of the targets), at least 1"
    orthogonal_rows = torch.eye(2, dtype=torch.float64)
    unrelated_covariance = float(kernel.cross(orthogonal_rows, orthogonal_rows)[0, 1])
    contrast = 1 / max(unrelated_covariance, 1e-12) - 1
    noise_std = max(UNIT_NOISE_STD, picks_per_direction / math.sqrt(contrast))
    return noise_std, (
        "auto: sqrt(num_examples / effective rank of the targets / (1 / q - 1)), at least 1, "
        f"q = k(unrelated rows) = {unrelated_covariance:.3g}"
    )


def measured_noise_std(near: float, rival: float, picks_per_direction: float) -> tuple[float, str]:
    """Computes the noise standard deviation for `noise_std="measured"`, and states the rule in words.

    The same derivation with correlations that were measured in the pool instead of assumed.

    Args:
        near (`float`):
            r, correlation of a target with the rows that are its share of the picks.
        rival (`float`):
            q, correlation of a target with the nearest rows of other tasks.
        picks_per_direction (`float`):
            k, number of picks over the effective rank of the targets.

    Example:
        >>> round(measured_noise_std(0.8, 0.5, 12.0)[0], 6)  # sqrt(12 / (1 / 0.5 - 1 / 0.8) - (1 - 0.8))
        3.974921
    """
    contrast = 1 / max(rival, LEAST_RIVAL) - 1 / near if near > 0 else 0.0
    most = (MOST_NOISE_PER_PICK * picks_per_direction) ** 0.5
    noise_std = most
    if contrast > 0:
        noise_std = min(most, math.sqrt(max(0.0, picks_per_direction / contrast - (1 - near))))
    return max(UNIT_NOISE_STD, noise_std), (
        f"measured: sqrt(k / (1 / q - 1 / r) - (1 - r)), at least 1, k = {picks_per_direction:.3g} picks per direction "
        f"of the targets, r = {near:.3g} (their nearest rows), q = {rival:.3g} (rows of other tasks)"
    )


def effective_rank(
    rows: Tensor, kernel: Kernel | None = None, weights: Tensor | None = None, pivots: Pivots | None = None
) -> float:
    """Computes the effective number of directions that rows span: exp of the entropy of the normalised spectrum of
    their Gram matrix.

    Args:
        rows (`Tensor`):
            (m, d) prepared rows.
        kernel (`Kernel`, *optional*):
            Covariance function of the Gram matrix; linear when left out.
        weights (`Tensor`, *optional*):
            (m,) positive weights W: the Gram matrix is W^1/2 K W^1/2, whose spectrum is that of repeated rows.
        pivots (`Pivots`, *optional*):
            Those of many rows, where they were computed before (`itl_hf.gp.many_targets`).

    Source: Roy & Vetterli, "The effective rank" (2007), on the eigenvalues of the Gram matrix.

    Example:
        >>> import torch
        >>> round(effective_rank(torch.eye(3)), 6)
        3.0
    """
    rows = rows.double()
    if kernel is None or kernel.linear:
        many = stand_ins(rows, weights)
        energy = torch.linalg.svdvals(scale_rows(rows, weights) if many is None else many).square()
    elif (reduced_rows := pivots or pivot_targets(kernel, rows, weights)) is not None:
        energy = reduced_rows.spectrum(weights)
    else:
        gram = kernel.cross(rows, rows)
        check_finite(gram, kernel, target_names(), target_names())
        gram = scale_gram(gram, weights)
        energy = torch.linalg.eigvalsh(gram).clamp_min(0)
    return spectrum_rank(energy)


def spectrum_rank(energy: Tensor) -> float:
    """Computes exp of the entropy of a normalised spectrum, (k,) eigenvalues of at least 0."""
    share = energy / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny)
    return float(torch.special.entr(share).sum().exp())
