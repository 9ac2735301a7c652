"""JSON Lines and Parquet of the picked rows with all their columns, for trainers that read data sets as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from itl_hf.selection.export.files import json_bytes
from itl_hf.selection.result.parquet import parquet_bytes
from itl_hf.text.json_feature import as_stored

if TYPE_CHECKING:
    from datasets import Dataset

WEIGHT_COLUMN = "weight"


def with_weights(dataset: Dataset, weights: list[float] | None) -> Dataset:
    """Returns the rows with a column `weight`.

    Raises:
        `ValueError`: If they have a column of this name already.
    """
    if weights is None:
        return dataset
    if WEIGHT_COLUMN in dataset.column_names:
        raise ValueError(f"the rows have a column {WEIGHT_COLUMN!r} already: rename it, or export without weights")
    return dataset.add_column(WEIGHT_COLUMN, pa.array(weights, pa.float64()))


def jsonl_bytes(dataset: Dataset) -> bytes:
    """Returns one row a line, with every column. `None` stays `null`, within rows too.

    Raises:
        `ValueError`: If a column holds values that JSON does not have, such as images or NaN.
    """
    return b"".join(_line(row, number) for number, row in enumerate(as_stored(dataset)))


def parquet_file(dataset: Dataset) -> bytes:
    """Returns the rows as Parquet with their types.

    Raises:
        `ValueError`: If Parquet has no type for a column.
    """
    return parquet_bytes(dataset, "the picked rows")


def _line(row: dict[str, object], number: int) -> bytes:
    try:
        return json_bytes(row) + b"\n"
    except (TypeError, ValueError):
        pass
    for column, value in row.items():
        try:
            json_bytes(value)
        except (TypeError, ValueError) as error:
            raise ValueError(
                f"row {number} of the picks: column {column!r} cannot be written as JSON ({error}): export as parquet"
            ) from None
    raise AssertionError("a row is JSON if all of its columns are")
