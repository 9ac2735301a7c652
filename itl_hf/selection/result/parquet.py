"""Writes rows as Parquet with their types, with two exceptions.

Images and other media that are named by a path are put into the file: a path of this machine would be of no use on
another one, and tell strangers the names of folders. Columns with empty dictionaries, for which Parquet has no type,
are written as JSON, from which the same values are read again.
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
from itl_hf.text.column_types import to_arrow
from itl_hf.text.json_feature import ExactJson, as_stored


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
    dataset = _with_json_columns(dataset, name)
    table = dataset.with_format("arrow")[:]
    table = _with_media(table, dataset.features, name)
    table = table.replace_schema_metadata(dataset.features.arrow_schema.metadata)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


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
    _json_columns(dataset, name)


def _with_json_columns(dataset: Dataset, name: str) -> Dataset:
    """Returns the rows with JSON in place of columns that Parquet has no type for."""
    columns = _json_columns(dataset, name)
    if not columns:
        return dataset
    plain_rows = dataset.with_format(None)
    features = Features({**dataset.features, **dict.fromkeys(columns, ExactJson())})
    table = dataset.with_format("arrow")[:]
    for column in columns:
        values = to_arrow(plain_rows[column][:], features[column])
        table = table.set_column(table.column_names.index(column), column, values)
    return as_stored(Dataset(table.replace_schema_metadata(features.arrow_schema.metadata)))


def _json_columns(dataset: Dataset, name: str) -> list[str]:
    schema = dataset.features.arrow_schema
    columns = [column for column in schema.names if not _has_parquet_type(schema.field(column))]
    unknown = [column for column in columns if not _is_json(schema.field(column).type)]
    if unknown:
        types = ", ".join(f"{column} ({schema.field(column).type})" for column in unknown)
        raise ValueError(
            f"{name} cannot be saved as Parquet: it has no type for {types}. Remove these columns with "
            "dataset.remove_columns([...]), or convert them to text"
        )
    return columns


def _is_json(kind: pa.DataType) -> bool:
    """Returns whether all values of a type are JSON."""
    if isinstance(kind, pa.BaseExtensionType):
        return bool(kind.extension_name == "arrow.json")
    if pa.types.is_struct(kind):
        return all(_is_json(kind.field(number).type) for number in range(kind.num_fields))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_json(kind.value_type)
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_integer, pa.types.is_floating)
    return any(is_kind(kind) for is_kind in (*kinds, pa.types.is_boolean, pa.types.is_null))


def _stored_type(kind: pa.DataType) -> pa.DataType:
    if isinstance(kind, pa.BaseExtensionType):
        return kind.storage_type
    if pa.types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return pa.struct([pa.field(field.name, _stored_type(field.type)) for field in fields])
    if pa.types.is_large_list(kind):
        return pa.large_list(_stored_type(kind.value_type))
    return pa.list_(_stored_type(kind.value_type)) if pa.types.is_list(kind) else kind


def _has_parquet_type(field: pa.Field) -> bool:
    try:
        # Nested extension types, such as JSON, are written as what they are stored as.
        pq.write_table(pa.schema([pa.field(field.name, _stored_type(field.type))]).empty_table(), io.BytesIO())
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
