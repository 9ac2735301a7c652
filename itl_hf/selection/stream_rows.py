"""Streams (`IterableDataset`): their rows are written to a private file once, which gives them row numbers.

The file is new for every call, so that rows which have changed at the source are never taken from an earlier reading;
it is deleted when the process ends. Features are kept as for other rows, so a stream that is selected from again is
read again but not embedded again.
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import datasets
from datasets import Dataset, IterableDataset, IterableDatasetDict

from itl_hf.disk.temporary import remove, remove_leftovers, temporary_path

_NAME = "stream"


def without_stream(rows: Any, name: str, split: str | None) -> tuple[Any, str | None]:
    """Returns the rows of a stream as a dataset on disk, and everything else as it is.

    Args:
        rows (`IterableDataset`, `IterableDatasetDict` or other rows):
            The rows as users passed them.
        name (`str`):
            Name of the rows in error messages.
        split (`str`, *optional*):
            Split of an `IterableDatasetDict`.

    Returns:
        `tuple`: The rows, and the split that is still to be taken from them. A stream whose column types are unknown
        becomes a list in memory, because types cannot be inferred before all rows are known.

    Raises:
        `ValueError`: If the split is unknown, or the stream has no rows.
    """
    if isinstance(rows, IterableDatasetDict):
        if split not in rows:
            raise ValueError(f"{name} is an IterableDatasetDict: pass split=, one of {list(rows)} (got {split!r}).")
        rows, split = rows[split], None
    if not isinstance(rows, IterableDataset):
        return rows, split
    if split is not None:
        raise ValueError(f"split={split!r} was given, but {name} is one stream and has no splits.")
    stream = rows.with_format(None)
    return (list(stream) if stream.features is None else _written(stream, name)), None


def _written(stream: IterableDataset, name: str) -> Dataset:
    folder = Path(datasets.config.HF_DATASETS_CACHE)
    folder.mkdir(parents=True, exist_ok=True)
    remove_leftovers(folder, _NAME)
    path = temporary_path(folder, _NAME)
    path.mkdir(mode=0o700)
    atexit.register(remove, path)

    num_rows = 0

    def read() -> Iterator[dict[str, Any]]:
        nonlocal num_rows
        for row in stream:
            num_rows += 1
            yield row

    try:
        return Dataset.from_generator(read, features=stream.features, cache_dir=str(path), fingerprint=path.name)
    except (datasets.exceptions.DatasetGenerationError, ValueError) as error:  # ValueError if there are no rows
        remove(path)
        problem = f"could not be read after row {num_rows - 1}" if num_rows else "has no rows, or could not be read"
        raise ValueError(f"{name}: the stream {problem}: {error.__cause__ or error}") from error
