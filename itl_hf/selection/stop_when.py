"""`StopWhen`: ends a selection before `num_examples` picks when there is little left to learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.quality import weighted_sum
from itl_hf.objectives.base import Objective


@dataclass(frozen=True)
class StopWhen:
    """Stop before `num_examples` picks when there is little left to learn.

    Args:
        gain (`float`, *optional*):
            Stop when a pick's gain falls below this; the pick is not made.
        variance_left (`float`, *optional*):
            Stop when the targets' total variance, weighted by their weights, has fallen to this share of what it was,
            the part that the pool cannot teach left aside: between 0 and 1.

    Raises:
        `ValueError`: If neither is given, or one is out of range.

    Example:
        >>> from itl_hf import SelectionConstraints, StopWhen, select_rows
        >>> rows = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]
        >>> constraints = SelectionConstraints(stop_when=StopWhen(variance_left=0.9))
        >>> len(select_rows(rows, [[1.0, 0.0]], 3, kernel="linear", constraints=constraints))
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
        self, gp: GaussianProcess, irreducible: Tensor, num_observed: int
    ) -> Callable[[Objective, list[float]], int | None]:
        """Returns the function that `speculative_greedy` calls to learn how many of the picks so far to keep.

        Args:
            gp (`GaussianProcess`):
                The Gaussian process.
            irreducible (`Tensor`):
                (m,) variance of each target that no pick can remove.
            num_observed (`int`):
                Observations that came before the first pick.
        """
        weights = gp.target_weights
        floor = float(weighted_sum(irreducible, weights))
        prior = weighted_sum(gp.kernel.diagonal(gp.targets), weights)

        def num_to_keep(objective: Objective, gains: list[float]) -> int | None:
            ends = []
            if self.gain is not None:
                ends += [place for place, gain in enumerate(gains) if gain < self.gain][:1]
            if self.variance_left is not None:
                squares = objective.posteriors[0].projections(gp.targets).square()  # (observed + n, m)
                removed_variance = squares.sum(1) if weights is None else squares @ weights  # (observed + n,)
                remainder = prior - removed_variance.cumsum(0) - floor
                start = remainder[num_observed - 1] if num_observed else remainder[0] + removed_variance[0]
                below = (remainder[num_observed:] <= self.variance_left * start).nonzero()
                ends += [int(below[0]) + 1] if len(below) else []
            return min(ends) if ends else None

        return num_to_keep
