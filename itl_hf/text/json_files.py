"""Reads JSON and JSON Lines files into datasets whose rows are those of the file.

`datasets.load_dataset` converts texts that look like dates, rounds numbers and reads texts that look like JSON as
values. Here a file has the same rows as the list that Python's `json` makes of it. The file is read twice, so that it
never has to fit into memory: once for the types of its columns, once for its rows, which are kept in the cache of
`datasets`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any

import datasets
import fsspec
import pyarrow as pa
from datasets import Dataset, Features
from fsspec.implementations.local import LocalFileSystem

from itl_hf.disk.temporary import remove_leftovers, temporary_path
from itl_hf.text.column_types import Structure, to_arrow
from itl_hf.text.file_contents import contents_digest
from itl_hf.text.json_feature import as_stored
from itl_hf.text.unreadable_files import DAMAGES, check_file, is_damage, unreadable

_BATCH_ROWS = 1000
#: Part of the name of cached files; to be raised when the same file becomes other rows.
_CACHE_VERSION = 1


def read_json_files(names: Sequence[str]) -> Dataset:
    """Reads JSON files, one after the other, as one dataset.

    Args:
        names (`Sequence[str]`):
            Paths or addresses (`hf://`, `https://`, `s3://`) of JSON Lines files or of files with one JSON list;
            compressed ones end with `.gz`, `.zst`, `.bz2` or `.xz`. Strings instead of objects become a column `text`.

    Raises:
        `ValueError`: If a file is empty, a line is not a JSON object (the line is named), or the name of a column
            cannot be written as UTF-8.
        `FileNotFoundError`: If there is no such file.
    """
    for name in names:
        check_file(name)
    cache_path = _cache_path(names)
    if not cache_path.exists():
        columns: dict[str, Structure] = {}
        num_rows = 0
        for num_rows, row in enumerate(_rows(names), 1):  # noqa: B007  # used after the loop
            for column in row:
                if column not in columns:
                    columns[column] = Structure()
            for column, structure in columns.items():
                structure.add(row.get(column))
        if not num_rows:
            raise ValueError(f"{', '.join(names)} has no rows. Write it again, or name another file")
        try:
            _write(names, Features({column: structure.feature() for column, structure in columns.items()}), cache_path)
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{', '.join(names)}: the name of a column, {error.object!r}, is not Unicode text. Give it another name"
            ) from error
    return as_stored(Dataset.from_file(str(cache_path)))


def _write(names: Sequence[str], features: Features, path: Path) -> None:
    """Writes the rows as an Arrow file, which appears whole or not at all."""
    schema = features.arrow_schema
    remove_leftovers(path.parent, "rows")
    draft = temporary_path(path.parent, "rows")
    try:
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_stream(sink, schema) as writer:
            for rows in _batches(_rows(names)):
                arrays = [to_arrow([row.get(column) for row in rows], features[column]) for column in schema.names]
                writer.write_batch(pa.record_batch(arrays, schema=schema))
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _cache_path(names: Sequence[str]) -> Path:
    """Returns where the rows of these files are kept; other contents have another path."""
    digest = hashlib.sha256(f"{_CACHE_VERSION} {datasets.__version__}".encode())
    for name in names:
        file_system, path = fsspec.core.url_to_fs(name)
        if not file_system.exists(path):
            raise FileNotFoundError(f"{name}: no such file")
        is_local = isinstance(file_system, LocalFileSystem)
        version = contents_digest([path]) if is_local else file_system.ukey(path)
        digest.update(f"\n{path} {version}".encode())
    folder = Path(datasets.config.HF_DATASETS_CACHE) / "itl_hf_json"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{digest.hexdigest()[:32]}.arrow"


def _rows(names: Sequence[str]) -> Iterator[dict[str, Any]]:
    return chain.from_iterable(map(_rows_of_file, names))


def _rows_of_file(name: str) -> Iterator[dict[str, Any]]:
    if name.endswith(".zst") and "zstd" not in fsspec.available_compressions():
        raise ValueError(f"{name} is compressed with Zstandard: pip install zstandard")
    try:
        with fsspec.open(name, "rt", encoding="utf-8-sig", compression="infer") as file:
            for where, value in _values(file):
                row = {"text": value} if isinstance(value, str) else value
                if not isinstance(row, dict):
                    raise ValueError(f"{where} is a {type(row).__name__}; every row must be an object or a string")
                yield row
    except (*DAMAGES, OSError) as error:
        if not is_damage(error):
            raise
        raise unreadable(name, "jsonl" if ".jsonl" in name else "json", error) from error


def _values(file: Any) -> Iterator[tuple[str, Any]]:
    """Yields the values of a file with one value a line, or one list, each with its place for error messages."""
    num_empty = 0
    first = ""
    for first in file:
        if first.strip():
            break
        num_empty += 1
    if first.lstrip().startswith("[") or not _is_json(first):
        rest = file.read()
        if not (first + rest).strip():
            return
        value = json.loads(first + rest)
        for number, one in enumerate(value if isinstance(value, list) else [value]):
            yield f"row {number}", one
        return
    for number, line in enumerate(chain([first], file), num_empty + 1):
        if line.strip():
            try:
                value = json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"line {number}: {error.msg} (column {error.colno})") from error
            yield f"line {number}", value


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except json.JSONDecodeError:
        return False
    return True


def _batches(rows: Iterator[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    while batch := list(islice(rows, _BATCH_ROWS)):
        yield batch
