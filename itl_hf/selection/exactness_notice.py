"""Says where picks are not certain to be exact: in the record of a selection, in a warning and on pages.

Rounding may decide picks, and many targets may be followed through fewer of them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.search.exactness import TOLERANCE


def describe_exactness(uncertainties: Sequence[float]) -> dict[str, Any] | None:
    """Describes for a record the picks whose gains may lie below the best by more than `TOLERANCE`; `None` if there are
    none.

    Args:
        uncertainties (`Sequence[float]`):
            For each pick, by which share of its gain it may lie below the best (`GreedyPicks.uncertainties`).

    Example:
        >>> describe_exactness([1e-9, 0.001])
        {'tolerance': 1e-06, 'count': 1, 'first': 1, 'largest': 0.001}
    """
    positions = [position for position, share in enumerate(uncertainties) if share > TOLERANCE]
    if not positions:
        return None
    largest = max(uncertainties[position] for position in positions)
    return {"tolerance": TOLERANCE, "count": len(positions), "first": positions[0], "largest": float(largest)}


def warn_of_uncertain_picks(exactness: dict[str, Any] | None) -> None:
    """Warns once about picks that rounding may have decided."""
    if exactness is None:
        return
    advice = "There is very little noise for these features, or nothing left to learn; the default is noise_std='auto'."
    warnings.warn(f"{uncertain_picks_text(exactness)} {advice}", stacklevel=4)


def uncertain_picks_text(exactness: dict[str, Any]) -> str:
    """Says which picks rounding may have decided, from the entry of a record."""
    largest, count, first = float(exactness["largest"]), int(exactness["count"]), int(exactness["first"])
    extent = "by any amount" if largest >= 1 else f"by up to {largest:.1g} of the gain"
    picks = f"1 pick is not certain to be the best (position {first})"
    if count > 1:
        picks = f"{count:,} picks are not certain to be the best, the first at position {first}"
    cause = f"rounding in 64-bit numbers may change the gain {extent}"
    return f"{picks}: {cause}. A larger noise_std or fewer picks avoids it."


def describe_many_targets(gp: GaussianProcess) -> dict[str, Any] | None:
    """Describes for a record the pivots that stood for many targets; `None` if the targets themselves were used, or
    nothing was lost.
    """
    if gp.pivots is None or gp.pivots.lost_share <= TOLERANCE:
        return None
    return {"targets": len(gp.targets), "pivots": len(gp.pivots.rows), "lost": gp.pivots.lost_share}


def warn_of_many_targets(reduction: dict[str, Any] | None) -> None:
    """Warns once that the picks are exact for fewer functions than there are targets."""
    if reduction is None:
        return
    advice = "The picks are exact for these. With kernel='linear' all targets count exactly."
    warnings.warn(f"{many_targets_text(reduction)} {advice}", stacklevel=4)


def many_targets_text(reduction: dict[str, Any]) -> str:
    """Says that some targets stood for all, from the entry of a record."""
    return (
        f"The {int(reduction['targets']):,} targets are followed through {int(reduction['pivots']):,} of them, which "
        f"leave {float(reduction['lost']):.2%} of the targets' variance over; it counts as noise of the targets."
    )
