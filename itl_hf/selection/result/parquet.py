"""Writes rows as Parquet with their types. Images and other media that are named by a path are put into the file.

A path of this machine would be of no use on another one, and tell strangers the names of folders.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset, Features
from datasets.features.features import require_storage_embed
from datasets.table import embed_array_storage

from itl_hf.disk.whole_files import write_whole_file


def write_parquet(dataset: Dataset, path: Path) -> None:
    """Writes a dataset with its types, as `Dataset.to_parquet` does, but without a progress bar.

    Raises:
        `ValueError`, `FileNotFoundError`: See `parquet_bytes`.
    """
    write_whole_file(path, parquet_bytes(dataset, "the rows"))


def parquet_bytes(dataset: Dataset, name: str) -> bytes:
    """Returns the content of a Parquet file with the rows of a dataset.

    Args:
        dataset (`Dataset`):
            The rows.
        name (`str`):
            What they are, for messages, such as `"the picked rows"`.

    Raises:
        `ValueError`: If Parquet has no type for a column.
        `FileNotFoundError`: If a file that a column names does not exist.
    """
    table = dataset.with_format("arrow")[:]
    table = _with_media(table, dataset.features, name)
    table = table.replace_schema_metadata(dataset.features.arrow_schema.metadata)
    return _to_bytes(table, name)


def check_writable_columns(dataset: Dataset, name: str) -> None:
    """Checks that Parquet has a type for every column, before any work is done for the rows.

    Args:
        dataset (`Dataset`):
            The rows.
        name (`str`):
            What they are, for messages, such as `"the pool"`.

    Raises:
        `ValueError`: If it has none for a column.
    """
    _to_bytes(dataset.features.arrow_schema.empty_table(), name)


def _to_bytes(table: pa.Table, name: str) -> bytes:
    sink = io.BytesIO()
    try:
        pq.write_table(table, sink)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        columns = [column for column in table.column_names if not _has_parquet_type(table.schema.field(column))]
        types = ", ".join(f"{column} ({table.schema.field(column).type})" for column in columns)
        raise ValueError(
            f"{name} cannot be saved as Parquet: {types or error}. Remove these columns with "
            "dataset.remove_columns([...]), or convert them to text"
        ) from error
    return sink.getvalue()


def _has_parquet_type(field: pa.Field) -> bool:
    try:
        pq.write_table(pa.schema([field]).empty_table(), io.BytesIO())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        return False
    return True


def _with_media(table: pa.Table, features: Features, name: str) -> pa.Table:
    """Returns the table with the content of files, such as images, in place of their paths."""
    for number, (column, feature) in enumerate(features.items()):
        if require_storage_embed(feature):
            table = table.set_column(number, column, _embedded(table[column], feature, column, name))
    return table


def _embedded(array: pa.ChunkedArray, feature: Any, column: str, name: str) -> pa.ChunkedArray:
    try:
        return embed_array_storage(array, feature)
    except FileNotFoundError as error:
        path = error.filename or error
        raise FileNotFoundError(
            f"{name} cannot be saved: column {column!r} names the file {path}, which does not exist. Put it there "
            f"again, or remove the column with dataset.remove_columns({column!r})"
        ) from error
