"""Says where picks are not certain to be exact: in the record of a selection, and once in a warning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

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
        stacklevel=3,
    )
