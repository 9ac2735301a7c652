"""What a selection may not exceed: a budget of costs (tokens, say), and shares of groups (sources, say).

Rows that no longer fit are closed, and the objective decides among the others. A budget does not change what is
maximised: gain per token would prefer the shortest rows, whatever they teach; skipping what does not fit keeps the
picks those of the objective. Closing
is one-way: a row that is closed stays closed for the rest of the selection, which exact speculation relies on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Availability:
    """Which rows are open at one step.

    Args:
        left (`float`):
            What a row may cost at most.
        groups (`Tensor`, *optional*):
            (G,) bool, groups that may still be picked from; `None` for all.
    """

    left: float
    groups: Tensor | None


@dataclass
class AvailabilityTracker:
    """Budget and group shares of one selection, and what is used up so far.

    Args:
        num_examples (`int`):
            Picks to make at most.
        costs (`Tensor`, *optional*):
            (N,) float64, cost of each row.
        budget (`float`, *optional*):
            Total cost of the picks at most.
        groups (`Tensor`, *optional*):
            (N,) int64 group number of each row.
        least (`Tensor`, *optional*):
            (G,) int64, picks of each group at least.
        most (`Tensor`, *optional*):
            (G,) int64, picks of each group at most.
    """

    num_examples: int
    costs: Tensor | None = None
    budget: float = float("inf")
    groups: Tensor | None = None
    least: Tensor | None = None
    most: Tensor | None = None
    spent: float = 0.0
    picks: int = 0
    counts: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.int64))

    def __post_init__(self) -> None:
        if self.groups is not None:
            size = int(self.groups.max()) + 1
            self.least = torch.zeros(size, dtype=torch.int64) if self.least is None else self.least
            self.most = torch.full((size,), self.num_examples) if self.most is None else self.most
            self.counts = torch.zeros(size, dtype=torch.int64)

    @property
    def bind(self) -> bool:
        """Whether there is anything to keep to."""
        return self.groups is not None or self.costs is not None

    def opening(self) -> Availability:
        """What is open for the next pick."""
        if self.groups is None or self.least is None or self.most is None:
            return Availability(self.budget - self.spent, None)
        owed = (self.least - self.counts).clamp_min(0)
        groups = self.counts < self.most
        if int(owed.sum()) >= self.num_examples - self.picks:  # the picks that are left are owed to these groups
            groups &= owed > 0
        return Availability(self.budget - self.spent, groups)

    def mask(self, opening: Availability, numbers: Tensor | slice) -> Tensor | None:
        """Which of these rows are open, (B,) bool; `None` for all."""
        open_rows: Tensor | None = None
        if self.costs is not None:
            open_rows = self.costs[numbers] <= opening.left
        if self.groups is not None and opening.groups is not None:
            member = opening.groups[self.groups[numbers]]
            open_rows = member if open_rows is None else open_rows & member
        return open_rows

    def take(self, number: int) -> None:
        """Counts a pick."""
        self.picks += 1
        if self.costs is not None:
            self.spent += float(self.costs[number])
        if self.groups is not None:
            self.counts[self.groups[number]] += 1

    def mark(self) -> tuple[float, int, Tensor]:
        """What is used up, for `back_to`."""
        return self.spent, self.picks, self.counts.clone()

    def back_to(self, mark: tuple[float, int, Tensor]) -> None:
        """Forgets the picks since `mark`."""
        self.spent, self.picks, self.counts = mark[0], mark[1], mark[2].clone()
