"""What users say about budgets, groups and when to stop, turned into what the engine keeps to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.objectives.base import Objective
from itl_hf.search.availability import AvailabilityTracker

Shares = Mapping[Any, tuple[float, float]] | float


@dataclass(frozen=True)
class StopWhen:
    """Stop before `num_examples` picks when there is little left to learn.

    Args:
        gain (`float`, *optional*):
            Stop when a pick's gain falls below this; the pick is not made.
        variance_left (`float`, *optional*):
            Stop when the targets' total variance has fallen to this share of what it was, the part that the pool cannot
            teach left aside: between 0 and 1.

    Raises:
        `ValueError`: Neither is given, or one is out of range.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]
        >>> len(select_rows(rows, [[1.0, 0.0]], 3, kernel="linear", stop_when=StopWhen(variance_left=0.9)))
        1
    """

    gain: float | None = None
    variance_left: float | None = None

    def __post_init__(self) -> None:
        if self.gain is None and self.variance_left is None:
            raise ValueError("StopWhen needs gain= or variance_left=")
        if self.gain is not None and not self.gain > 0:
            raise ValueError(f"StopWhen(gain=...) must be positive, got {self.gain}")
        if self.variance_left is not None and not 0 < self.variance_left < 1:
            raise ValueError(f"StopWhen(variance_left=...) must be between 0 and 1, got {self.variance_left}")

    def rule(
        self, gp: GaussianProcess, irreducible: Tensor, known: int
    ) -> Callable[[Objective, list[float]], int | None]:
        """For `speculative_greedy`: how many of the picks so far to keep if that is enough.

        Args:
            gp (`GaussianProcess`):
                The Gaussian process.
            irreducible (`Tensor`):
                (m,) variance of each target that no pick can remove.
            known (`int`):
                Observations that came before the first pick.
        """
        floor = float(irreducible.sum())

        def enough(objective: Objective, gains: list[float]) -> int | None:
            ends = []
            if self.gain is not None:
                ends += [place for place, gain in enumerate(gains) if gain < self.gain][:1]
            if self.variance_left is not None:
                removed = objective.posteriors[0].projections(gp.targets).square().sum(1)  # (known + n,)
                left = gp.kernel.diagonal(gp.targets).sum() - removed.cumsum(0) - floor
                start = left[known - 1] if known else left[0] + removed[0]
                reached = (left[known:] <= self.variance_left * start).nonzero()
                ends += [int(reached[0]) + 1] if len(reached) else []
            return min(ends) if ends else None

        return enough


def resolve_limits(
    num_examples: int,
    num_rows: int,
    costs: Sequence[float] | np.ndarray | None,
    budget: float | None,
    groups: Sequence[Any] | np.ndarray | None,
    shares: Shares | None,
) -> AvailabilityTracker:
    """The engine's limits from row costs and group labels.

    Args:
        num_examples (`int`):
            Picks to make at most.
        num_rows (`int`):
            N.
        costs (`Sequence[float]`, *optional*):
            (N,) cost of each row, such as its tokens.
        budget (`float`, *optional*):
            What all picks may cost together; rows that no longer fit are skipped.
        groups (`Sequence`, *optional*):
            (N,) label of each row, such as its source.
        shares (`float` or `Mapping`, *optional*):
            The largest share of the picks that any group may have, or for some labels a pair (smallest, largest),
            between 0 and 1.

    Raises:
        `ValueError`: One without the other, lengths that differ, negative costs, labels that do not occur, shares that
            cannot be met.
    """
    if (costs is None) != (budget is None) or (groups is None) != (shares is None):
        raise ValueError("give costs together with token_budget, and groups together with group_shares")
    limits: dict[str, Any] = {}
    if costs is not None and budget is not None:
        limits |= {"costs": _costs(costs, num_rows), "budget": float(budget)}
        if not limits["budget"] > 0:
            raise ValueError(f"token_budget must be positive, got {budget}")
    if groups is not None and shares is not None:
        limits |= _groups(groups, shares, num_examples, num_rows)
    return AvailabilityTracker(num_examples, **limits)


def _costs(costs: Sequence[float] | np.ndarray, num_rows: int) -> Tensor:
    values = torch.as_tensor(np.asarray(costs, dtype=np.float64))
    if values.shape != (num_rows,):
        raise ValueError(f"costs must hold one number for each of the {num_rows} rows, got shape {tuple(values.shape)}")
    bad = (~(torch.isfinite(values) & (values >= 0))).nonzero()
    if len(bad):
        raise ValueError(f"costs: row {int(bad[0])} has {float(values[bad[0]])}; costs must be finite and not negative")
    return values


def _groups(groups: Sequence[Any] | np.ndarray, shares: Shares, num_examples: int, num_rows: int) -> dict[str, Tensor]:
    labels = list(groups)
    if len(labels) != num_rows:
        raise ValueError(f"groups must hold one label for each of the {num_rows} rows, got {len(labels)}")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    member = torch.tensor([numbers[label] for label in labels])
    pairs = dict.fromkeys(numbers, (0.0, float(shares))) if isinstance(shares, int | float) else dict(shares)
    least = torch.zeros(len(numbers), dtype=torch.int64)
    most = torch.full((len(numbers),), num_examples)
    for label, (low, high) in pairs.items():
        if label not in numbers:
            raise ValueError(f"group_shares: no row has the label {label!r}; labels are {list(numbers)[:10]}")
        if not 0 <= low <= high <= 1:
            raise ValueError(f"group_shares: {label!r} needs 0 <= smallest <= largest <= 1, got {(low, high)}")
        # Rounded towards what can be met: a share of 0.3 of 10 picks is 3 at least, and 3 at most.
        least[numbers[label]] = int(np.ceil(low * num_examples - 1e-9))
        most[numbers[label]] = int(np.floor(high * num_examples + 1e-9))
    available = torch.bincount(member, minlength=len(numbers))
    for label, number in numbers.items():
        if available[number] < least[number]:
            raise ValueError(
                f"group_shares: {label!r} has {available[number]} rows, fewer than the {least[number]} it should get"
            )
    if int(least.sum()) > num_examples:
        raise ValueError(f"group_shares: the smallest shares add up to {int(least.sum())} of {num_examples} picks")
    return {"groups": member, "least": least, "most": most}
