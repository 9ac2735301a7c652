"""What a selection was told about the quality of rows and the weights of targets, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from itl_hf.selection.result.record import SelectionRecord


def numbers_text(entry: Mapping[str, Any] | None) -> str | None:
    """Describes one number for each row, with the name of its column, which is text from the data; `None` without
    numbers.
    """
    if entry is None:
        return None
    source = "numbers" if entry.get("column") is None else f"column {entry['column']}"
    return f"{source}: {_range(entry)}"


def weighting_text(record: SelectionRecord) -> str:
    """Says in one line which quality and which weights were used, without text from the data; empty if none were."""
    parts = []
    if record.quality is not None:
        parts.append(f"rows count by their quality ({_range(record.quality)})")
    if record.target_weights is not None:
        parts.append(f"targets count by their weights ({_range(record.target_weights)})")
    text = " and ".join(parts)
    return text[:1].upper() + text[1:] + "." if text else ""


def _range(entry: Mapping[str, Any]) -> str:
    return f"{entry['smallest']:.3g} to {entry['largest']:.3g}, mean {entry['mean']:.3g}"
