"""Converts lists and splits to datasets, and determines which of their columns are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import datasets

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict, IterableDataset

RowFormat = Literal["messages", "prompt-completion", "prompt", "text"]
Row = Mapping[str, Any]

#: Every column that this package reads; other columns of a row are ignored.
TEXT_COLUMNS = ("messages", "prompt", "completion", "text", "tools", "chat_template_kwargs")
_SINGLE: tuple[RowFormat, ...] = ("messages", "prompt", "text")
_ACCEPTED_COLUMNS = "`messages`, `prompt` with or without `completion`, or `text`"


def as_dataset(
    data: Dataset | DatasetDict | IterableDataset | Sequence[Row] | Sequence[str],
    name: str = "pool",
    split: str | None = None,
) -> Dataset:
    """Converts rows to a `datasets.Dataset`.

    Args:
        data (`Dataset`, `DatasetDict`, `list[dict]` or `list[str]`):
            The rows. Strings become a column `text`; dictionaries may have different keys (missing values are `None`).
        name (`str`, *optional*, defaults to `"pool"`):
            Name of the rows in error messages.
        split (`str`, *optional*):
            Split of a `DatasetDict`; required there, and an error for other data.

    Returns:
        `Dataset`: At least one row.

    Raises:
        `TypeError`: If `data` is of another kind, or a stream (`IterableDataset`).
        `ValueError`: If there are no rows, the split is unknown, or rows do not fit into one table.

    Example:
        >>> as_dataset(["What is 2 + 2?"])[0]
        {'text': 'What is 2 + 2?'}
    """
    if isinstance(data, datasets.DatasetDict):
        if split not in data:
            raise ValueError(f"{name} is a DatasetDict: pass split=, one of {list(data)} (got {split!r}).")
        data = data[split]
    elif split is not None:
        raise ValueError(f"split={split!r} was given, but {name} is a {type(data).__name__} and has no splits.")
    if isinstance(data, datasets.IterableDataset | datasets.IterableDatasetDict):
        raise TypeError(
            f"{name} is a streaming dataset, which has no row numbers to select by. Load it with streaming=False, or "
            "collect a part: Dataset.from_list(list(stream.take(10_000)))."
        )
    dataset = data if isinstance(data, datasets.Dataset) else _from_rows(data, name)
    if len(dataset) == 0:
        raise ValueError(f"{name} has no rows.")
    return dataset


def _from_rows(data: Any, name: str) -> Dataset:
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Sequence):
        raise TypeError(
            f"{name} must be a datasets.Dataset, a DatasetDict, a list of dicts or a list of strings, got "
            f"{type(data).__name__}. Load files or Hub names with datasets.load_dataset first."
        )
    rows = [{"text": row} if isinstance(row, str) else row for row in data]
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"{name}: row {number} is a {type(row).__name__}; every row must be a dict or a string.")
    # `Dataset.from_list` would take the columns of the first row only and silently drop those of others.
    columns = list(dict.fromkeys(key for row in rows for key in row))
    try:
        return datasets.Dataset.from_dict({column: [row.get(column) for row in rows] for column in columns})
    except (ValueError, TypeError, OverflowError) as error:  # pyarrow's errors derive from these
        if (mismatch := _first_mismatch(rows, columns)) is not None:
            raise ValueError(
                f"{name}: row {mismatch} does not fit into one table with the rows before it: {error}"
            ) from error
        raise ValueError(f"{name}: the rows do not fit into one table: {error}") from error


def _first_mismatch(rows: Sequence[Row], columns: Sequence[str]) -> int | None:
    """Returns the number of the first row with a value of another type than the rows before it."""
    for column in columns:
        types = [(number, type(row[column])) for number, row in enumerate(rows) if row.get(column) is not None]
        for number, value_type in types:
            if value_type is not types[0][1]:
                return number
    return None


def row_format(column_names: Sequence[str]) -> RowFormat:
    """Returns the format of rows with these columns: `prompt` + `completion` first, then `messages`, `prompt`, `text`.

    Args:
        column_names (`Sequence[str]`):
            The columns of a dataset, or the keys of a row.

    Raises:
        `ValueError`: If none of the accepted columns is there; the message lists those that are.

    Example:
        >>> row_format(["id", "prompt", "completion"])
        'prompt-completion'
    """
    if "prompt" in column_names and "completion" in column_names:
        return "prompt-completion"
    for candidate in _SINGLE:
        if candidate in column_names:
            return candidate
    raise ValueError(
        f"no column with text: found {sorted(column_names)}, expected {_ACCEPTED_COLUMNS}. "
        "Rename the column that holds the text: dataset.rename_column('instruction', 'prompt')."
    )
