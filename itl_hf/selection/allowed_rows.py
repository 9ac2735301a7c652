"""Whether a budget and shares of groups allow any row at all: otherwise a selection would end without picks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from itl_hf.search.availability import AvailabilityTracker


def check_allows_a_row(availability: AvailabilityTracker, excluded_rows: Sequence[int], num_rows: int) -> None:
    """Checks that at least one row of the pool may be picked first.

    Args:
        availability (`AvailabilityTracker`):
            Budget and shares, without picks.
        excluded_rows (`Sequence[int]`):
            Rows that must not be picked.
        num_rows (`int`):
            N.

    Raises:
        `ValueError`: If every row costs more than the budget, or the shares of all groups are less than one pick.
    """
    is_open = torch.ones(num_rows, dtype=torch.bool)  # (N,)
    is_open[list(excluded_rows)] = False
    if not bool(is_open.any()):
        return
    if availability.costs is not None:
        least = float(availability.costs[is_open].min())
        if least > availability.budget:
            raise ValueError(
                f"token_budget={availability.budget:g} allows no row: the one of the least cost has {least:g}. Raise it"
            )
    if availability.groups is not None and availability.max_counts is not None:
        most = int(availability.max_counts[availability.groups[is_open]].max())
        if most == 0:
            raise ValueError(
                f"group_shares allow no row: of num_examples={availability.num_examples} every share is less than one "
                "pick. Raise the shares or num_examples"
            )
