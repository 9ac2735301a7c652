"""Reads the picks and targets that the page shows: text, other columns, sources, and which picks pass the filters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from itl_hf.report.explorer.recent import keep_recent
from itl_hf.report.explorer.row_text import row_excerpts, search_key, searched_text, text_of, value_text
from itl_hf.selection.result import coverage
from itl_hf.selection.result.columns import COLUMNS
from itl_hf.text import TEXT_COLUMNS

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.report.explorer.session import Filters
    from itl_hf.selection.result.selection import Selection


@keep_recent
def pick_texts(selection: Selection) -> list[tuple[str, str]]:
    """Prompt and completion of each pick, in the order picked."""
    return [text_of(row) for row in selection.dataset]


@keep_recent
def pick_excerpts(selection: Selection) -> list[str]:
    """One line for each pick, in the order picked."""
    return row_excerpts([prompt for prompt, _ in pick_texts(selection)])


@keep_recent
def target_excerpts(selection: Selection) -> list[str]:
    """One line for each target."""
    return row_excerpts([text_of(row)[0] for row in selection.targets])


def other_columns(data: ExplorerData, row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a row's columns that hold no text that is read, in their order."""
    hidden = {*COLUMNS, *TEXT_COLUMNS, *(() if data.text_rows is None else data.text_rows.format.columns)}
    return [(name, value_text(value)) for name, value in row.items() if name not in hidden and value is not None]


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
    column, query = group_column(selection), search_key(filters.text)
    min_gain = filters.gain * float(selection.gains.max(initial=0.0))
    ranks = [rank for rank, gain in enumerate(selection.gains.tolist()) if filters.gain <= 0 or gain >= min_gain]
    if filters.groups and column is not None:
        names = selection.dataset[column][:]
        ranks = [rank for rank in ranks if str(names[rank]) in filters.groups]
    if query:
        texts = pick_texts(selection)
        ranks = [rank for rank in ranks if query in searched_text(*texts[rank])]
    return ranks
