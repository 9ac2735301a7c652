"""Converts lists and splits to datasets, and determines which of their columns are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import datasets

from itl_hf.text.column_types import dataset_of_rows
from itl_hf.text.json_feature import as_stored

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
            The rows. Strings (in a list, a tuple, a column or an array) become a column `text`; dictionaries may have
            different keys (missing values are `None`). A format such as `torch` is taken off.
        name (`str`, *optional*, defaults to `"pool"`):
            Name of the rows in error messages.
        split (`str`, *optional*):
            Split of a `DatasetDict`; required there, and an error for other data.

    Returns:
        `Dataset`: At least one row. The rows equal those that were passed: no row gets keys of other rows.

    Raises:
        `TypeError`: If `data` is of another kind, or a stream (`IterableDataset`).
        `ValueError`: If there are no rows, the split is unknown, rows do not fit into one table, or a dataset has a
            transform.

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
            f"{name} is a streaming dataset, which has no row numbers. Load it with streaming=False, collect a part "
            "(Dataset.from_list(list(stream.take(10_000)))), or pass it to Selector.select."
        )
    try:
        dataset = as_stored(data) if isinstance(data, datasets.Dataset) else _from_rows(data, name)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if len(dataset) == 0:
        raise ValueError(f"{name} has no rows.")
    return dataset


def _from_rows(data: Any, name: str) -> Dataset:
    if hasattr(data, "tolist") and getattr(data, "ndim", None) == 1:
        data = data.tolist()  # an array or a pandas Series
    if isinstance(data, str | bytes | Mapping) or not isinstance(data, Sequence):
        raise TypeError(
            f"{name} must be a datasets.Dataset, a DatasetDict, a list of dicts or a list of strings, got "
            f"{type(data).__name__}. Load files or Hub names with datasets.load_dataset first."
        )
    rows = [{"text": row} if isinstance(row, str) else row for row in data]
    for number, row in enumerate(rows):
        if not isinstance(row, Mapping):
            raise TypeError(f"{name}: row {number} is a {type(row).__name__}; every row must be a dict or a string.")
    try:
        return dataset_of_rows(rows)
    except (ValueError, TypeError, OverflowError) as error:  # pyarrow's errors derive from these
        raise ValueError(f"the rows do not fit into one table: {error}") from error


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
