"""Rows as the page shows them: their text, cut to a readable length, and the source they come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from itl_hf.selection.result import coverage
from itl_hf.text import plain_text

if TYPE_CHECKING:
    from itl_hf.report.explorer.session import Filters
    from itl_hf.selection.result.selection import Selection

MAX_CHARACTERS = 20_000
#: Start and end of an excerpt: prompts of one kind often start alike and differ in their last words.
HEAD, TAIL = 70, 90


def text_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Prompt and completion; empty where the row has no text that can be read."""
    try:
        return plain_text(row)
    except ValueError:
        return "", ""


def excerpt(text: str) -> str:
    r"""One line.

    Example:
        >>> excerpt("Hello,\n  world")
        'Hello, world'
    """
    start, end = " ".join(text[:500].split()), " ".join(text[-500:].split())
    if len(text) <= 500 and len(start) <= HEAD + TAIL:
        return start or "(no text)"
    head, tail = start[:HEAD], end[-TAIL:]
    return f"{head.rpartition(' ')[0] or head} … {tail.partition(' ')[2] or tail}"


def cut(text: str) -> str:
    """At most so many characters as a page can bear, and how many there were."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} […] ({len(text) - MAX_CHARACTERS:,} more characters)"


def group_column(selection: Selection) -> str | None:
    """The column that names where a row comes from: that of the selection's limits, or one with a usual name."""
    columns = selection.dataset.column_names
    asked = selection.record.constraints.get("groups")
    return coverage.group_column(columns, asked)


def group_names(selection: Selection) -> list[str]:
    """The sources that occur among the picks, sorted."""
    column = group_column(selection)
    return [] if column is None else sorted({str(value) for value in selection.dataset[column]})


def matching(selection: Selection, filters: Filters) -> list[int]:
    """Picks that pass the filters, as places in the order."""
    column, wanted = group_column(selection), filters.text.casefold().strip()
    least = filters.gain * float(selection.gains.max(initial=0.0))
    kept = [place for place, gain in enumerate(selection.gains.tolist()) if filters.gain <= 0 or gain >= least]
    if filters.groups and column is not None:
        names = selection.dataset[column][:]
        kept = [place for place in kept if str(names[place]) in filters.groups]
    if wanted:
        texts = ["\n".join(text_of(row)).casefold() for row in selection.dataset]
        kept = [place for place in kept if wanted in texts[place]]
    return kept
