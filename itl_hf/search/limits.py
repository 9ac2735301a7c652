"""Which rows budgets and group shares leave open, in tensors on any device.

`AvailabilityTracker` counts the accepted picks on the host. A speculated run makes picks that the host does not know
yet, so what they use is added up on the device, with the same float64 operations in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itl_hf.search.availability import AvailabilityTracker

_CPU = torch.device("cpu")


def upload(values: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor of the CPU to a device without waiting for what the device computes."""
    return values.to(device, non_blocking=True)


@dataclass(frozen=True)
class OpenRows:
    """Which rows may be picked at each of some steps.

    Args:
        max_costs (`Tensor`, *optional*):
            (b,) float64, the largest cost that a row may have; `None` for any.
        open_groups (`Tensor`, *optional*):
            (b, G) bool, groups that may still be picked from; `None` for all.
    """

    max_costs: Tensor | None = None
    open_groups: Tensor | None = None

    def part(self, start: int | None, stop: int | None) -> OpenRows:
        """Returns some of the steps."""
        parts = (None if steps is None else steps[start:stop] for steps in (self.max_costs, self.open_groups))
        return OpenRows(*parts)

    @staticmethod
    def join(parts: Sequence[OpenRows]) -> OpenRows:
        """Returns the steps of all parts, in their order."""
        costs = [part.max_costs for part in parts if part.max_costs is not None]
        groups = [part.open_groups for part in parts if part.open_groups is not None]
        return OpenRows(torch.cat(costs) if costs else None, torch.cat(groups) if groups else None)


@dataclass
class UsedLimits:
    """What picks have used so far.

    Args:
        total_cost (`Tensor`):
            () float64.
        num_picks (`int`):
            Number of the picks.
        group_counts (`Tensor`):
            (G,) int64, picks of each group.
    """

    total_cost: Tensor
    num_picks: int
    group_counts: Tensor


class Limits:
    """The limits of a selection on a device.

    Args:
        tracker (`AvailabilityTracker`):
            Costs, groups and what accepted picks have used; it stays on the CPU.
        device (`torch.device`, *optional*, defaults to the CPU):
            Where rows are compared with the limits.
    """

    def __init__(self, tracker: AvailabilityTracker, device: torch.device = _CPU) -> None:
        self.tracker, self.device, self.is_constrained = tracker, device, tracker.is_constrained
        self.costs, self.groups, self.min_counts, self.max_counts = (
            None if values is None else upload(values, device)
            for values in (tracker.costs, tracker.groups, tracker.min_counts, tracker.max_counts)
        )

    def used(self) -> UsedLimits:
        """Returns what the picks that the tracker knows of have used."""
        cost = torch.tensor(self.tracker.total_cost, dtype=torch.float64)
        counts = self.tracker.group_counts.clone()  # the tracker changes its own
        return UsedLimits(upload(cost, self.device), self.tracker.num_picks, upload(counts, self.device))

    def current(self, used: UsedLimits) -> OpenRows:
        """Returns which rows may be picked next, for one step."""
        max_costs = None if self.costs is None else (self.tracker.budget - used.total_cost)[None]
        if self.groups is None or self.min_counts is None or self.max_counts is None:
            return OpenRows(max_costs)
        missing_counts = (self.min_counts - used.group_counts).clamp_min(0)
        # Where as many picks are missing as are left, all further picks must be of these groups.
        may_be_any = missing_counts.sum() < self.tracker.num_examples - used.num_picks
        open_groups = (used.group_counts < self.max_counts) & ((missing_counts > 0) | may_be_any)
        return OpenRows(max_costs, open_groups[None])

    def mask(self, open_rows: OpenRows, indices: Tensor | slice) -> Tensor | None:
        """Returns which of these rows may be picked at each step, (b, B) bool; `None` for all."""
        is_open: Tensor | None = None
        if self.costs is not None and open_rows.max_costs is not None:
            is_open = self.costs[indices] <= open_rows.max_costs[:, None]
        if self.groups is not None and open_rows.open_groups is not None:
            in_open_group = open_rows.open_groups[:, self.groups[indices]]
            is_open = in_open_group if is_open is None else is_open & in_open_group
        return is_open

    def open_rows(self, indices: Tensor | slice) -> Tensor | None:
        """Returns which of these rows may be picked after the picks that the tracker knows of, (B,) bool; `None` for
        all.
        """
        if not self.is_constrained:
            return None
        is_open = self.mask(self.current(self.used()), indices)
        return None if is_open is None else is_open[0]

    def add(self, used: UsedLimits, index: Tensor) -> UsedLimits:
        """Returns what is used with a further pick, (1,) int64 row number."""
        cost, counts = used.total_cost, used.group_counts
        if self.costs is not None:
            cost = cost + self.costs[index][0]
        if self.groups is not None:
            counts = counts.index_add(0, self.groups[index], torch.ones_like(index))
        return replace(used, total_cost=cost, num_picks=used.num_picks + 1, group_counts=counts)
