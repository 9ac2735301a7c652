"""`TextRows`: the columns of a dataset that this package reads, as rows that do not depend on how it is stored."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from datasets import LargeList, List, Value

from itl_hf.text.json_feature import as_stored
from itl_hf.text.rows import TEXT_COLUMNS, Row, row_format

if TYPE_CHECKING:
    from datasets import Dataset

_BATCH_ROWS = 1024


class TextRows:
    """Reads the text of a dataset's rows.

    A format such as `torch` is ignored. Where Arrow stores dictionaries as structs, a key that is `None` is left out,
    because Arrow adds the keys of all other rows to each row. A key that is `None` in every row was added by none, and
    stays; so does every `None` within JSON (`datasets.Json`), which lists and JSON files of such rows become.

    Args:
        dataset (`Dataset`):
            Rows of one of the formats of `row_format`.

    Raises:
        `ValueError`: If no column holds text.

    Example:
        >>> import datasets
        >>> rows = datasets.Dataset.from_list([{"text": "a", "tools": [{"x": 1}]}, {"text": "b", "tools": [{"y": 2}]}])
        >>> rows[0]["tools"], TextRows(rows).read(range(1))[0]["tools"]
        ([{'x': 1, 'y': None}], [{'x': 1}])
    """

    def __init__(self, dataset: Dataset) -> None:
        row_format(dataset.column_names)
        names = [name for name in dataset.column_names if name in TEXT_COLUMNS]
        self._dataset = as_stored(dataset).select_columns(names)
        self._structs = {name: type_ for name, type_ in self._dataset.features.items() if _has_struct(type_)}
        #: Rows, among those read so far, with a key left out of a tool or a tool call.
        self.num_with_filled_keys = 0

    @property
    def column_names(self) -> list[str]:
        """Names of the columns of the rows as they are read."""
        return list(self._dataset.column_names)

    def __len__(self) -> int:
        return len(self._dataset)

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self), _BATCH_ROWS):
            yield from self.read(range(start, min(start + _BATCH_ROWS, len(self))))

    def read(self, numbers: range | np.ndarray) -> list[Row]:
        """Returns the rows with these ascending numbers as dictionaries."""
        is_range = int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers)
        columns = self._dataset[int(numbers[0]) : int(numbers[-1]) + 1] if is_range else self._dataset[numbers]
        rows = [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        return [self._without_filled_keys(row) for row in rows] if self._structs else list[Row](rows)

    def select(self, numbers: np.ndarray) -> TextRows:
        """Returns the text of some rows, (M,) row numbers, in their order."""
        part = copy.copy(self)
        part._dataset, part.num_with_filled_keys = self._dataset.select(numbers), 0
        return part

    def _without_filled_keys(self, row: dict[str, Any]) -> dict[str, Any]:
        num_filled = [0]
        parts = {name: _drop_filled(row[name], feature, num_filled) for name, feature in self._structs.items()}
        self.num_with_filled_keys += num_filled[0] > 0
        return row | parts

    def filled_keys_message(self) -> str | None:
        """Returns what to tell users if keys were left out of tools or tool calls."""
        if not self.num_with_filled_keys:
            return None
        return (
            f"{self.num_with_filled_keys} row(s) have keys in tools or tool calls that are null and were read as keys "
            "that the row does not have: the dataset gives the keys of every row to all rows. A trainer reads them as "
            "nulls. Give the rows as a list of dicts or as a JSON Lines file, which keep them as they are, or store "
            "the column as datasets.Json()."
        )


def _has_struct(feature: Any) -> bool:
    if isinstance(feature, List | LargeList):
        return _has_struct(feature.feature)
    return isinstance(feature, dict)


def _drop_filled(value: Any, feature: Any, num_filled: list[int], depth: int = 0) -> Any:
    """Returns the value without the keys at `None` of its structs; counts those within tools and tool calls."""
    if value is None:
        return None
    if isinstance(feature, dict) and isinstance(value, dict):
        kept = {key: part for key, part in value.items() if part is not None or feature[key] == Value("null")}
        # At the first level a message lacks `name` or `tool_calls`, which no template takes for a null.
        num_filled[0] += depth > 0 and len(kept) < len(value)
        return {key: _drop_filled(part, feature[key], num_filled, depth + 1) for key, part in kept.items()}
    if isinstance(feature, List | LargeList) and isinstance(value, list):
        return [_drop_filled(part, feature.feature, num_filled, depth) for part in value]
    return value
