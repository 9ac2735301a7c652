"""Which scores count as equal, how exact a pick is, and which noises 64-bit numbers resolve.

Statistics in float64 have rounding errors relative to their scales (`Objective.error_scales`). What they may change a
score by differs from row to row: little where the denominator of the score is large, much where it has fallen to a tiny
noise variance. So the margin within which two scores count as equal is that of the rows themselves, and it grows and
shrinks with the scale of the features and of the noise.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.quality import Quality, select
from itl_hf.objectives.base import Objective

#: Rounding of a statistic in float64, relative to its scale.
ROUNDING = 4e-15
#: Scores that differ by this share of them count as equal, and the lowest row number decides.
RELATIVE_TIE = 1e-9
#: Margins that a pick's gain may lie below the best: its own error, that of the best row, and the tie.
MARGINS = 3.0
#: A pick whose gain is certain to less than this share is reported.
TOLERANCE = 1e-6
#: The noise's standard deviation over the largest prior standard deviation, sqrt(max k(x, x)), must lie between these.
LEAST_NOISE, MOST_NOISE = 1e-7, 1e8
#: Passes are made in float64 where a row's norm or its inverse is larger.
FLOAT32_NORM = 1e6


@dataclass(frozen=True)
class Best:
    """The row to pick, in tensors on the device of the statistics, so that the host need not wait for it.

    Args:
        position (`Tensor`):
            (1,) int64, its position among the rows that were compared.
        score (`Tensor`):
            (1,) float64, its score; minus infinity if no row is available, NaN if a score is.
        margin (`Tensor`):
            (1,) float64, how far below the largest score others counted as equal to it.
        is_resolved (`Tensor`, *optional*):
            () bool, whether the margin is all that the score may be off by; `None` for yes.
    """

    position: Tensor
    score: Tensor
    margin: Tensor
    is_resolved: Tensor | None = None

    def check(self) -> None:
        """Raises `FloatingPointError` if a score is NaN."""
        check_score(float(self.score), int(self.position))


def check_score(score: float, position: int) -> None:
    """Raises `FloatingPointError` if the score of the row at a position is NaN."""
    if math.isnan(score):
        raise FloatingPointError(f"the score of the row at position {position} is NaN")


def rounding_slack(objective: Objective, scales: Tensor) -> Tensor:
    """Returns how far rounding may change statistics in float64, from `Objective.error_scales`, (s, B) -> (k, B)."""
    return ROUNDING * objective.expand_scales(scales)


def first_best(objective: Objective, stats: Tensor, slack: Tensor, quality: Quality, is_closed: Tensor) -> Best:
    """Finds the first row whose score equals the largest up to rounding.

    Equal rows (duplicates) get scores that differ in their last bits with their position in a matrix product. Without a
    tolerance these bits, not the row number, would decide between them. Of two rows the more certain one decides
    whether they are equal.

    Args:
        objective (`Objective`):
            Conditioned on the picks so far.
        stats (`Tensor`):
            (k, B) float64, the rows' statistics.
        slack (`Tensor`):
            (k, B) or (1, B) float64, `rounding_slack` of the rows.
        quality (`Quality`):
            (B,), that of the rows.
        is_closed (`Tensor`):
            (B,) bool, rows that may not be picked.
    """
    scores = objective.score(stats, objective.num_observations, quality).masked_fill_(is_closed, -torch.inf)
    largest = scores.argmax(0, keepdim=True)  # (1,), of NaN if there is one
    best = scores[largest]  # (1,)
    is_resolved = objective.resolves(stats, objective.num_observations)
    if stats.device.type == "cpu" and not objective.additive:
        # The bounds of such an objective take as long as its scores, and reading a number costs nothing here.
        margin = _margins(objective, stats, slack, quality, scores, largest)
        close = ((scores >= best - margin) & ~is_closed).nonzero()[:, 0]
        if len(close) > 1:
            own = _margins(objective, stats, slack, quality, scores, close).minimum(margin)
            close = close[scores[close] >= best - own]
        position = close[:1] if len(close) else largest
        return Best(position, scores[position], margin, is_resolved)
    margins = _margins(objective, stats, slack, quality, scores, slice(None))  # (B,)
    margin = margins[largest]
    position = (scores >= best - margins.minimum(margin)).byte().argmax(0, keepdim=True)
    return Best(position, scores[position], margin, is_resolved)


def _margins(
    objective: Objective, stats: Tensor, slack: Tensor, quality: Quality, scores: Tensor, at: Tensor | slice
) -> Tensor:
    """Returns by how much rounding may change the scores at these positions, (len(at),)."""
    bound = objective.upper_bound(stats[:, at], slack[:, at], objective.num_observations, select(quality, at))
    score = scores[at]
    return (bound - score).clamp_min_(0).add_(score.abs(), alpha=RELATIVE_TIE)


def gain_uncertainties(objective: Objective, scores: Tensor, margins: Tensor, is_resolved: Tensor) -> list[float]:
    """Returns by which share the gain of each pick may lie below that of the best row, at most 1.

    Args:
        objective (`Objective`):
            Converts scores to gains.
        scores (`Tensor`):
            (b,) float64, those of the picks.
        margins (`Tensor`):
            (b,) float64, `Best.margin`.
        is_resolved (`Tensor`):
            (b,) bool, `Best.is_resolved`.
    """
    low, high = objective.gain(scores), objective.gain(scores + MARGINS * margins)
    shares = (high - low) / low.abs()
    is_certain = is_resolved & (low != 0) & torch.isfinite(high - low)
    uncertainties: list[float] = torch.where(is_certain, shares, 1.0).clamp_max(1.0).tolist()
    return uncertainties


def check_noise(noise_std: float, target_noise_std: float, largest_variance: float) -> None:
    """Raises `ValueError` unless 64-bit numbers resolve the noises beside the largest k(x, x).

    Example:
        >>> check_noise(1.0, 0.0, largest_variance=4.0)
    """
    if not 1e-120 < largest_variance < 1e120:
        raise ValueError(
            f"the largest k(x, x) is {largest_variance:g}, which 64-bit numbers cannot be computed with: scale the "
            "features (standardize='scale') or the kernel"
        )
    deviation = math.sqrt(largest_variance)
    low, high = 0.99 * LEAST_NOISE * deviation, 1.01 * MOST_NOISE * deviation  # rows of norm 1 up to rounding
    for name, value, least in (("noise_std", noise_std, low), ("target_noise_std", target_noise_std, 0.0)):
        if not least <= value <= high:
            raise ValueError(
                f"{name} is {value:g}, and must be between {least:.3g} and {high:.3g}: {LEAST_NOISE:g} to "
                f"{MOST_NOISE:g} times the largest prior standard deviation, sqrt(max k(x, x)) = {deviation:.3g}. "
                "Beyond, picks would be decided by rounding errors. Leave it at its default, or scale the features."
            )


def fits_float32(rows: Tensor, is_unit: bool) -> Tensor:
    """Returns whether squares and products of these rows' features, (B, d), are within the range of 32-bit numbers, ()
    bool.

    `is_unit` says that all rows have norm 1 or 0. Rows of zeros fit.
    """
    if is_unit or len(rows) == 0:
        return torch.ones((), dtype=torch.bool, device=rows.device)
    norms = torch.linalg.vector_norm(rows, dim=1)  # (B,)
    is_zero = norms == 0
    fits = ~is_zero & (norms > 1 / FLOAT32_NORM) & (norms < FLOAT32_NORM)
    if rows.device.type != "cpu" or bool(is_zero.any()):  # norms of tiny numbers are 0 as well
        fits |= is_zero & (torch.linalg.vector_norm(rows, ord=torch.inf, dim=1) == 0)
    return fits.all()
