"""Says where picks are not certain to be exact: in the record of a selection, and once in a warning.

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
    extent = "their gains may be anything" if exactness["largest"] >= 1 else f"by up to {exactness['largest']:.1g}"
    warnings.warn(
        f"{exactness['count']} pick(s), the first at position {exactness['first']}, are not certain to be the best: "
        f"rounding in 64-bit numbers may change their gains by more than {exactness['tolerance']:g} of them "
        f"({extent}). The noise is very small for these features, or there is nothing left to learn. Use a larger "
        "noise_std (the default is noise_std='auto') or fewer picks.",
        stacklevel=4,
    )


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
    warnings.warn(
        f"{reduction['targets']} targets are followed through {reduction['pivots']} of them, which leave "
        f"{reduction['lost']:.2%} of the targets' variance over; it counts as noise of the targets. The picks are "
        "exact for these. With kernel='linear' all targets count exactly.",
        stacklevel=4,
    )
