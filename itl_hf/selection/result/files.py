"""Reads and writes a selection on disk.

The folder holds the picked rows and the targets as Parquet, so that `datasets.load_dataset(folder)` opens it, the
record as JSON and the arrays as safetensors. `folder.py` puts the files into the folder.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Dataset
from safetensors import SafetensorError
from safetensors.numpy import load, save

from itl_hf.disk.checks import expand
from itl_hf.embedding.store.atomic_files import DamagedError
from itl_hf.selection.result.folder import (
    FACTS,
    NUMBERS,
    ROWS,
    TARGETS,
    read_selection,
    replace_selection,
)
from itl_hf.selection.result.parquet import parquet_bytes
from itl_hf.text.json_feature import as_stored

FORMAT_VERSION = 1
#: What pyarrow and datasets raise for Parquet that is not what they wrote: its pages, its schema, its description.
_DAMAGES = (pa.ArrowException, OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError)
#: Fields of a selection that are arrays.
ARRAYS = ("indices", "gains", "target_variance", "irreducible", "whole_pool", "reach")
OPTIONAL_ARRAYS = ("shortlist_rows", "whole_pool_information")


def write(
    directory: Path,
    dataset: Dataset,
    targets: Dataset,
    arrays: Mapping[str, np.ndarray],
    facts: Mapping[str, Any],
    overwrite: bool = False,
) -> Path:
    """Writes the four files of a selection, of which the folder then holds all or, after an error, none.

    Raises:
        `FileExistsError`: If the folder holds another selection or other files and `overwrite` is false.
    """
    target = expand(directory)
    contents = {
        NUMBERS: save({name: np.ascontiguousarray(array) for name, array in arrays.items()}),
        ROWS: parquet_bytes(dataset, "the picked rows"),
        TARGETS: parquet_bytes(targets, "the targets"),
    }
    replace_selection(target, {"format_version": FORMAT_VERSION, **facts}, contents, overwrite)
    return target


def read(directory: Path) -> tuple[Dataset, Dataset, dict[str, np.ndarray], dict[str, Any]]:
    """Reads the picked rows, the targets, the arrays and the facts that `write` wrote.

    Raises:
        `FileNotFoundError`: If the folder holds no selection.
        `ValueError`: If it was written by a newer version of this package.
        `DamagedError`: If a file is not the one that was written; a `ValueError`.
    """
    source = expand(directory)
    facts, contents = read_selection(source)
    version = facts.get("format_version")
    if not isinstance(version, int):
        raise DamagedError(f"{source / FACTS} is not of a selection: it has no format_version")
    if version > FORMAT_VERSION:
        raise ValueError(f"{source} was written by a newer itl_hf (format {version}): upgrade to read it")
    try:
        arrays = load(contents[NUMBERS])
    except SafetensorError as error:
        raise DamagedError(f"{source / NUMBERS} is damaged: {error}") from error
    return (
        _read_parquet(source / ROWS, contents[ROWS]),
        _read_parquet(source / TARGETS, contents[TARGETS]),
        arrays,
        facts,
    )


def _read_parquet(path: Path, content: bytes) -> Dataset:
    """Reads a dataset into memory, without a copy in the cache of `datasets`: the folder may be moved afterwards."""
    try:
        return as_stored(Dataset(pq.read_table(pa.BufferReader(content))))
    except _DAMAGES as error:
        raise DamagedError(f"{path} is damaged: {error}") from error
