"""Reads the rows that the page shows: text, other columns, the source of a row, and which picks pass the filters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.report.explorer.recent import keep_recent
from itl_hf.selection.result import coverage
from itl_hf.selection.result.columns import COLUMNS
from itl_hf.text import TEXT_COLUMNS, TextRows, plain_text
from itl_hf.text.excerpts import excerpt, excerpts, one_line

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.report.explorer.session import Filters
    from itl_hf.selection.result.selection import Selection

MAX_CHARACTERS = 20_000
#: Characters of a text in a list, of a text under the pointer, and of the value of a column.
EXCERPT_CHARACTERS, TOOLTIP_CHARACTERS, VALUE_CHARACTERS = 150, 240, 200
NO_TEXT = "(no text)"


def text_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Returns prompt and completion of a row; both are empty if the row has no text that can be read."""
    try:
        return plain_text(row)
    except ValueError:
        return "", ""


def searched_text(prompt: str, completion: str) -> str:
    """The text of a row that is searched."""
    return search_key(f"{prompt}\n{completion}")


def search_key(text: str) -> str:
    """The form in which texts are compared: without difference between upper and lower case, and valid UTF-8."""
    return text.casefold().strip().encode("utf-8", "replace").decode()


def pool_rows(text_rows: TextRows, numbers: Iterable[int]) -> list[tuple[str, str]]:
    """Returns prompt and completion of rows of the pool, in their order."""
    row_numbers = np.fromiter(numbers, dtype=np.int64)
    if not len(row_numbers):
        return []
    ascending, places = np.unique(row_numbers, return_inverse=True)
    rows = [text_of(row) for row in text_rows.read(ascending)]
    return [rows[place] for place in places]


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


def row_excerpts(prompts: list[str]) -> list[str]:
    """One line for each row of a list."""
    return [line or NO_TEXT for line in excerpts(prompts, EXCERPT_CHARACTERS)]


def hit_excerpts(texts: list[str], query: str) -> list[str]:
    """One line for each row of a list that contains a text: what is around it, unless that is alike in several rows."""
    around = [_excerpt_around(text, query) for text in texts]
    return [line if around.count(line) == 1 else plain for line, plain in zip(around, row_excerpts(texts), strict=True)]


def _excerpt_around(text: str, query: str) -> str:
    line, key = excerpt(text, EXCERPT_CHARACTERS), search_key(query)
    if key in search_key(line):
        return line
    whole = one_line(text)
    place = whole.casefold().find(one_line(key))  # a few letters are of another length there, which is near enough
    start = max(0, place - EXCERPT_CHARACTERS // 2)
    return line if place < 0 else f"… {whole[start : start + EXCERPT_CHARACTERS]} …"


def tooltip(prompt: str) -> str:
    """What is shown of a row under the pointer."""
    return excerpt(prompt, TOOLTIP_CHARACTERS) or NO_TEXT


def cut(text: str) -> str:
    """Returns at most `MAX_CHARACTERS` characters of a text, and says how many more there are."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} […] ({len(text) - MAX_CHARACTERS:,} more characters)"


def other_columns(data: ExplorerData, row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Names and values of a row's columns that hold no text that is read, in their order."""
    hidden = {*COLUMNS, *TEXT_COLUMNS, *(() if data.text_rows is None else data.text_rows.format.columns)}
    return [(name, value_text(value)) for name, value in row.items() if name not in hidden and value is not None]


def value_text(value: Any) -> str:
    """Returns the value of a column as one line.

    Example:
        >>> value_text(0.123456789), value_text({"a": 1}), value_text("some words")
        ('0.123457', '{"a": 1}', 'some words')
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return excerpt(text, VALUE_CHARACTERS)


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
