"""Which rows may still be picked: a budget of costs (tokens, for example) and shares of groups (sources, for example).

A row that no longer fits is closed, and the objective decides among the others. A budget does not change what is
maximised. Gain per token would prefer the shortest rows, whatever they teach; skipping rows that do not fit keeps the
picks those of the objective. A row that is closed stays closed for the rest of the selection: exact speculation relies
on this. Which rows are open is computed in `itl_hf.search.limits`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass
class AvailabilityTracker:
    """Budget and group shares of one selection, and how much of them the picks so far have used.

    Args:
        num_examples (`int`):
            Largest number of picks.
        costs (`Tensor`, *optional*):
            (N,) float64, cost of each row.
        budget (`float`, *optional*):
            Largest total cost of the picks.
        groups (`Tensor`, *optional*):
            (N,) int64 group number of each row.
        min_counts (`Tensor`, *optional*):
            (G,) int64, least number of picks of each group.
        max_counts (`Tensor`, *optional*):
            (G,) int64, largest number of picks of each group.
        total_cost (`float`, *optional*, defaults to 0):
            Cost of the picks so far.
        num_picks (`int`, *optional*, defaults to 0):
            Number of the picks so far.
        group_counts (`Tensor`, *optional*):
            (G,) int64, picks of each group so far.
    """

    num_examples: int
    costs: Tensor | None = None
    budget: float = float("inf")
    groups: Tensor | None = None
    min_counts: Tensor | None = None
    max_counts: Tensor | None = None
    total_cost: float = 0.0
    num_picks: int = 0
    group_counts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        self.is_constrained = self.groups is not None or self.costs is not None
        if self.groups is not None:
            size = int(self.groups.max()) + 1 if self.max_counts is None else len(self.max_counts)
            self.min_counts = torch.zeros(size, dtype=torch.int64) if self.min_counts is None else self.min_counts
            self.max_counts = torch.full((size,), self.num_examples) if self.max_counts is None else self.max_counts
            self.group_counts = torch.zeros(size, dtype=torch.int64)

    def subset(self, indices: Tensor) -> AvailabilityTracker:
        """Returns a tracker without picks for some of the rows, (M,) row numbers, which are numbered from 0 then."""
        return replace(
            self,
            costs=None if self.costs is None else self.costs[indices],
            groups=None if self.groups is None else self.groups[indices],
            total_cost=0.0,
            num_picks=0,
        )

    def record_pick(self, index: int) -> None:
        """Adds a pick to what is used."""
        self.num_picks += 1
        if self.costs is not None:
            self.total_cost += float(self.costs[index])
        if self.groups is not None:
            self.group_counts[self.groups[index]] += 1

    def snapshot(self) -> tuple[float, int, Tensor]:
        """Returns what is used so far, for `restore`."""
        return self.total_cost, self.num_picks, self.group_counts.clone()

    def restore(self, snapshot: tuple[float, int, Tensor]) -> None:
        """Drops the picks since `snapshot`."""
        self.total_cost, self.num_picks, self.group_counts = snapshot[0], snapshot[1], snapshot[2].clone()
