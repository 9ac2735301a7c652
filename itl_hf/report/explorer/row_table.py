"""Reads the rows that the page shows: text, excerpts, the source of a row, and which picks pass the filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from itl_hf.selection.result import coverage
from itl_hf.text import plain_text

if TYPE_CHECKING:
    from itl_hf.report.explorer.session import Filters
    from itl_hf.selection.result.selection import Selection

MAX_CHARACTERS = 20_000
#: Characters from the start and from the end of a text in its excerpt: prompts of one kind often start with the same
#: words and differ in the last ones.
HEAD, TAIL = 70, 90


def text_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Returns prompt and completion of a row; both are empty if the row has no text that can be read."""
    try:
        return plain_text(row)
    except ValueError:
        return "", ""


def excerpt(text: str) -> str:
    r"""Returns the start and the end of a text in one line.

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
    """Returns at most `MAX_CHARACTERS` characters of a text, and says how many more there are."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} […] ({len(text) - MAX_CHARACTERS:,} more characters)"


def group_column(selection: Selection) -> str | None:
    """The column that names the source of a row: the one in the selection's constraints, or one with a usual name."""
    columns = selection.dataset.column_names
    return coverage.group_column(columns, selection.record.constraints.get("groups"))


def group_names(selection: Selection) -> list[str]:
    """Names of the sources that occur among the picks, sorted."""
    column = group_column(selection)
    return [] if column is None else sorted({str(value) for value in selection.dataset[column]})


def matching_picks(selection: Selection, filters: Filters) -> list[int]:
    """Ranks (from 0) of the picks that pass the filters."""
    column, search_text = group_column(selection), filters.text.casefold().strip()
    min_gain = filters.gain * float(selection.gains.max(initial=0.0))
    ranks = [rank for rank, gain in enumerate(selection.gains.tolist()) if filters.gain <= 0 or gain >= min_gain]
    if filters.groups and column is not None:
        names = selection.dataset[column][:]
        ranks = [rank for rank in ranks if str(names[rank]) in filters.groups]
    if search_text:
        texts = ["\n".join(text_of(row)).casefold() for row in selection.dataset]
        ranks = [rank for rank in ranks if search_text in texts[rank]]
    return ranks
