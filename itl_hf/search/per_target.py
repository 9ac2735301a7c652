"""Greedy selection for many targets at once, each with candidates of its own (SIFT's setting: a prompt, its own data).

With one target a, every reading of "the row that tells most about it" picks the same row: VTL's score Cov[f(x), f(a)]^2
/ (Var[f(x)] + r) is the fall of the target's variance, and ITL's gain grows with it. So one search serves both.

Targets are taken in groups, step by step together, so that an operation serves many of them:

1. *Search in float32.* Greedy by upper bounds of the scores, for an assumed error of float32. Each step notes the few
   best candidates and the bound of the best of the rest.
2. *Prove in float64.* When all steps are done, the few of every step are computed exactly, all at once. A target's
   picks stand if each is the best of its few, its score is out of the rest's reach, and float32 was never off by more
   than was assumed (measured on all of the few, with a margin).

A target that fails is searched again with a larger error, or in float64 altogether. So the picks are those of plain
float64 greedy among the candidates.

Source: Huebotter, Bongni, Hakimi & Krause, "Efficiently Learning at Test-Time" (SIFT, ICLR 2025), section 3;
Rasmussen & Williams (2006), eq. 2.24 and algorithm 2.1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.search.nearest_rows import PoolRows
from itl_hf.search.per_target_steps import FEW, PerTargetRequest, greedy_in_float64, prove, search

__all__ = ["PerTargetPicks", "PerTargetRequest", "greedy_in_float64", "greedy_per_target", "prove", "search"]

#: Errors of float32 to assume, relative to the prior variances of answers, one after the other.
ASSUMED = (1e-5, 2e-4)
#: The measured error is that of a few rows; the others may do worse.
SAFETY = 8.0
#: Targets with up to this many candidates are done in float64, and how many others at a time.
ALL_EXACT, EXACT_AT_ONCE = 128, 4
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
        redone (`int`):
            Targets that were done in float64 altogether.
    """

    indices: Tensor
    gains: Tensor
    redone: int = 0


def greedy_per_target(
    rows: PoolRows,
    candidates: Tensor,
    targets: Tensor,
    request: PerTargetRequest,
    on_targets: Callable[[int], object] | None = None,
) -> PerTargetPicks:
    """Exact greedy picks for each target among its candidates.

    Args:
        rows (`PoolRows`):
            The pool.
        candidates (`Tensor`):
            (m, K) row numbers, ascending for each target.
        targets (`Tensor`):
            (m, d) prepared target rows, float64.
        request (`PerTargetRequest`):
            The rest.
        on_targets (`Callable`, *optional*):
            Called with the number of further targets that are done.
    """
    breadth, picks = candidates.shape[1], request.num_examples
    size = max(1, GROUP_BYTES // (4 * breadth * (targets.shape[1] + picks) + 8 * FEW * picks**2))
    if len(targets) == 0:  # more processes than targets
        return PerTargetPicks(candidates.new_zeros(0, picks), targets.new_zeros(0, picks))
    indices, gains, redone = [], [], 0
    for numbers, wanted in zip(candidates.split(size), targets.split(size), strict=True):
        group = _Group(rows, numbers, wanted, request)
        redone += group.run()
        indices.append(numbers.gather(1, group.places))
        gains.append(group.gains)
        if on_targets is not None:
            on_targets(len(numbers))
    return PerTargetPicks(torch.cat(indices), torch.cat(gains), redone)


class _Group:
    """Several targets with K candidates each, taken through their picks together.

    Args:
        rows (`PoolRows`):
            The pool.
        numbers (`Tensor`):
            (B, K) row numbers of the candidates, ascending.
        targets (`Tensor`):
            (B, d) float64.
        request (`PerTargetRequest`):
            The rest.
    """

    def __init__(self, rows: PoolRows, numbers: Tensor, targets: Tensor, request: PerTargetRequest) -> None:
        self.rows, self.numbers, self.targets, self.request = rows, numbers, targets, request
        self.places = numbers.new_zeros(len(numbers), request.num_examples)  # the picks, among the candidates
        self.gains = targets.new_zeros(len(numbers), request.num_examples)

    def run(self) -> int:
        """All steps; returns how many targets took float64."""
        left = torch.arange(len(self.numbers), device=self.numbers.device)
        close = left[:0]  # targets with rows that only float64 tells apart
        if self.numbers.shape[1] > ALL_EXACT:
            for error in ASSUMED:
                if len(left):
                    left, ties = self._search(left, error)
                    close = torch.cat([close, ties])
            left = torch.cat([left, close])
        for which in left.split(EXACT_AT_ONCE) if len(left) else ():
            rows = self.rows.exact(self.numbers[which])
            self.places[which], self.gains[which] = greedy_in_float64(rows, self.targets[which], self.request)
        return len(left)

    def _search(self, which: Tensor, error: float) -> tuple[Tensor, Tensor]:
        """Returns the targets for which a larger error must be assumed, and those for which none would do."""
        numbers, targets = self.numbers[which], self.targets[which]
        trace = search(self.rows.coarse(numbers), targets, self.request, error)
        gains, off, sure = prove(trace, self.rows, numbers, targets, self.request)
        self.places[which], self.gains[which] = trace.places, gains
        off = off * SAFETY > error
        return which[off], which[~off & ~sure]
