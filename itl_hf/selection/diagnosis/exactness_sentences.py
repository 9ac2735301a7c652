"""Sentences about picks that are not certain to be the best, from the record of a selection."""

from __future__ import annotations

from itl_hf.selection.result.record import SelectionRecord


def uncertain_picks_text(record: SelectionRecord) -> str | None:
    """Says which picks rounding may have decided; `None` if all are exact within the tolerance."""
    entry = record.exactness
    if entry is None:
        return None
    largest = float(entry["largest"])
    extent = "by any amount" if largest >= 1 else f"by up to {largest:.1g} of the gain"
    count = int(entry["count"])
    picks = "1 pick is" if count == 1 else f"{count:,} picks are"
    first = f", the first at position {int(entry['first'])}" if count > 1 else f" (position {int(entry['first'])})"
    return (
        f"{picks} not certain to be the best{first}: rounding in 64-bit numbers may change the gain {extent}. A larger "
        "noise_std or fewer picks avoids it."
    )


def many_targets_text(record: SelectionRecord) -> str | None:
    """Says that some targets stood for all; `None` if all counted exactly."""
    entry = record.many_targets
    if entry is None:
        return None
    return (
        f"The {int(entry['targets']):,} targets are followed through {int(entry['pivots']):,} of them, which leave "
        f"{float(entry['lost']):.2%} of the targets' variance over; it counts as noise of the targets."
    )
