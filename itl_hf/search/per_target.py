"""Greedy selection for many targets at once, each from its own candidates (as in SIFT: data for every prompt).

With one target a, VTL and ITL pick the same row: VTL's score Cov[f(x), f(a)]^2 / (Var[f(x)] + r) is the fall of the
target's variance, and ITL's gain grows with it. So one search is used for both.

Targets are processed in groups, step by step together, so that one operation is for many of them:

1. *Search in float32.* Greedy by upper bounds of the scores, for an assumed error of float32. Each step records the few
   best candidates and the bound of the best of the others.
2. *Prove in float64.* After all steps, the scores of the few of every step are computed exactly, all at once. A
   target's picks are accepted if each is the best of its few, its score is above the bound of the others, and the error
   of float32 was never larger than assumed (measured on all of the few, with a margin).

A target whose picks are not accepted is searched again with a larger assumed error, or entirely in float64. So the
picks are those of plain float64 greedy among the candidates.

Source: Huebotter, Bongni, Hakimi & Krause, "Efficiently Learning at Test-Time" (SIFT, ICLR 2025), section 3;
Rasmussen & Williams (2006), eq. 2.24 and algorithm 2.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.finite_kernel import check_rows, pool_row_names
from itl_hf.search.nearest_rows import PoolRows
from itl_hf.search.per_target_steps import FEW, PerTargetRequest, greedy_in_float64, prove, search

__all__ = ["PerTargetPicks", "PerTargetRequest", "greedy_in_float64", "greedy_per_target", "prove", "search"]

#: Assumed errors of float32, relative to the prior variances of answers, tried one after the other.
ASSUMED_ERRORS = (1e-5, 2e-4)
#: Factor on the measured error: it is that of a few rows, and others may have larger ones.
SAFETY_FACTOR = 8.0
#: Targets with up to this many candidates are searched in float64 at once; number of targets in float64 at a time.
FLOAT64_CANDIDATES, FLOAT64_TARGETS = 128, 4
#: Memory for one group of targets.
GROUP_BYTES = 20 * 2**20


@dataclass(frozen=True)
class PerTargetPicks:
    """Picks of several targets.

    Args:
        indices (`Tensor`):
            (m, n) row numbers in the order picked.
        gains (`Tensor`):
            (m, n) float64, by how much each pick lowers its target's variance.
        num_float64 (`int`):
            Number of targets that were searched in float64.
    """

    indices: Tensor
    gains: Tensor
    num_float64: int = 0


def greedy_per_target(
    rows: PoolRows,
    candidates: Tensor,
    targets: Tensor,
    request: PerTargetRequest,
    on_targets: Callable[[int], object] | None = None,
    first_target: int = 0,
) -> PerTargetPicks:
    """Makes exact greedy picks for each target among its candidates.

    Args:
        rows (`PoolRows`):
            The pool.
        candidates (`Tensor`):
            (m, K) row numbers, ascending for each target.
        targets (`Tensor`):
            (m, d) prepared target rows, float64.
        request (`PerTargetRequest`):
            Kernel, noise and number of picks.
        on_targets (`Callable`, *optional*):
            Called with the number of further finished targets.
        first_target (`int`, *optional*, defaults to 0):
            Number of the first of these targets among all, for messages.

    Raises:
        `ValueError`: If the kernel is not finite for a pair of rows, which is named.
    """
    breadth, picks = candidates.shape[1], request.num_examples
    size = max(1, GROUP_BYTES // (4 * breadth * (targets.shape[1] + picks) + 8 * FEW * picks**2))
    if len(targets) == 0:  # more processes than targets
        return PerTargetPicks(candidates.new_zeros(0, picks), targets.new_zeros(0, picks))
    indices, gains, num_float64 = [], [], 0
    for group_candidates, group_targets in zip(candidates.split(size), targets.split(size), strict=True):
        group = _TargetGroup(rows, group_candidates, group_targets, request, first_target)
        first_target += len(group_targets)
        num_float64 += group.run()
        indices.append(group_candidates.gather(1, group.positions))
        gains.append(group.gains)
        if on_targets is not None:
            on_targets(len(group_candidates))
    return PerTargetPicks(torch.cat(indices), torch.cat(gains), num_float64)


class _TargetGroup:
    """Several targets with K candidates each, whose picks are made together.

    Args:
        rows (`PoolRows`):
            The pool.
        indices (`Tensor`):
            (B, K) row numbers of the candidates, ascending.
        targets (`Tensor`):
            (B, d) float64.
        request (`PerTargetRequest`):
            Kernel, noise and number of picks.
        first_target (`int`, *optional*, defaults to 0):
            Number of the first of these targets among all, for messages.
    """

    def __init__(
        self, rows: PoolRows, indices: Tensor, targets: Tensor, request: PerTargetRequest, first_target: int = 0
    ) -> None:
        self.first_target = first_target
        self.rows, self.indices, self.targets, self.request = rows, indices, targets, request
        self.positions = indices.new_zeros(len(indices), request.num_examples)  # the picks, among the candidates
        self.gains = targets.new_zeros(len(indices), request.num_examples)

    def run(self) -> int:
        """Makes all picks; returns how many targets were searched in float64."""
        remaining = torch.arange(len(self.indices), device=self.indices.device)
        tied_targets = remaining[:0]  # targets with candidates whose scores are equal in float32
        if self.indices.shape[1] > FLOAT64_CANDIDATES:
            for error in ASSUMED_ERRORS:
                if len(remaining):
                    remaining, ties = self._search(remaining, error)
                    tied_targets = torch.cat([tied_targets, ties])
            remaining = torch.cat([remaining, tied_targets])
        for which in remaining.split(FLOAT64_TARGETS) if len(remaining) else ():
            rows, quality = self.rows.exact(self.indices[which]), self.rows.pool.quality_of(self.indices[which])
            try:
                picks = greedy_in_float64(rows, self.targets[which], self.request, quality)
            except FloatingPointError:
                self._refuse_non_finite(which)
                raise
            self.positions[which], self.gains[which] = picks
        return len(remaining)

    def _refuse_non_finite(self, which: Tensor) -> None:
        """Raises `ValueError` that names rows with a kernel that is not finite."""
        for target in which.tolist():
            numbers, name = self.indices[target], f"target {self.first_target + target}"
            rows = self.rows.exact(numbers[None])[0]
            names = pool_row_names(numbers)
            check_rows(self.request.kernel, rows, names, self.targets[target][None], lambda _, name=name: name)  # type: ignore[misc]
            check_rows(self.request.kernel, rows, names, rows, names)

    def _search(self, which: Tensor, error: float) -> tuple[Tensor, Tensor]:
        """Returns the targets that need a larger assumed error, and those that no assumed error would help."""
        indices, targets = self.indices[which], self.targets[which]
        quality = self.rows.pool.quality_of(indices)
        trace = search(self.rows.coarse(indices), targets, self.request, error, quality)
        gains, max_error, is_proved = prove(trace, self.rows, indices, targets, self.request)
        self.positions[which], self.gains[which] = trace.positions, gains
        needs_larger = max_error * SAFETY_FACTOR > error
        return which[needs_larger], which[~needs_larger & ~is_proved]
