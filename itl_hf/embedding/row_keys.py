"""Reads all rows of a dataset before a model runs, checks them and computes a key of each row's text.

A row that cannot be embedded raises an error within seconds, wherever it is. The hash of all keys identifies the rows
that stored features belong to. Equal keys show equal rows, so that each text is embedded once. 16 bytes are kept per
row.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from itl_hf.text import Row, TextRows
from itl_hf.text.bad_rows import BadRows

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.embedding.embedders.base import Embedder

CHECK_ROWS = 1024


@dataclass(frozen=True)
class RowKeys:
    """A key of 128 bits for each row's text.

    Args:
        columns (`Sequence[str]`):
            Names of the columns that hold text.
        keys (`np.ndarray`):
            Shape (N, 2), uint64.

    Example:
        >>> import datasets
        >>> row_keys(datasets.Dataset.from_dict({"text": ["a", "b", "a"]})).index().tolist()
        [0, 1, 0]
    """

    columns: Sequence[str]
    keys: np.ndarray

    @property
    def hash(self) -> str:
        """Hash of all rows in their order, the same as `rows_fingerprint` returns."""
        digest = hashlib.sha256(json.dumps(sorted(self.columns)).encode())
        digest.update(np.ascontiguousarray(self.keys).data)
        return digest.hexdigest()[:32]

    def index(self) -> np.ndarray | None:
        """Numbers the distinct texts by first occurrence and returns each row's number, (N,) int64.

        Returns `None` if all rows differ.
        """
        order = np.lexsort((self.keys[:, 1], self.keys[:, 0]))  # stable: equal rows stay in their order
        sorted_keys = self.keys[order]
        is_first = np.ones(len(order), dtype=bool)
        is_first[1:] = (sorted_keys[1:] != sorted_keys[:-1]).any(axis=1)
        if is_first.all():
            return None
        earliest = order[is_first]  # (M,) first row of each text
        rank = np.empty(len(earliest), dtype=np.int64)
        rank[np.argsort(earliest)] = np.arange(len(earliest))
        index = np.empty(len(order), dtype=np.int64)
        index[order] = rank[np.cumsum(is_first) - 1]
        return index


def distinct_rows(index: np.ndarray | None, num_rows: int) -> np.ndarray:
    """Returns the number of the first row with each text, given the result of `RowKeys.index`, (M,), ascending."""
    return np.arange(num_rows) if index is None else np.unique(index, return_index=True)[1]


def row_keys(dataset: Dataset | TextRows, embedder: Embedder | None = None) -> RowKeys:
    """Reads all rows of a dataset and returns their keys. With `embed(..., rows_hash=keys)` they are not read again.

    Args:
        dataset (`Dataset` or `TextRows`):
            Rows as `itl_hf.text.row_format` describes them.
        embedder (`Embedder`, *optional*):
            Its `check` is called with every row.

    Raises:
        `ValueError`: If no column holds text, or the embedder cannot embed a row.
    """
    rows = text_columns(dataset)
    return RowKeys(rows.column_names, read_keys(rows, embedder, 0, len(rows)))


def rows_fingerprint(dataset: Dataset | TextRows, embedder: Embedder | None = None) -> str:
    """Returns a hash of the rows' text. Other columns and the storage of the dataset do not affect it.

    Args:
        dataset (`Dataset` or `TextRows`):
            Rows as `itl_hf.text.row_format` describes them.
        embedder (`Embedder`, *optional*):
            Its `check` is called with every row.
    """
    return row_keys(dataset, embedder).hash


def text_columns(dataset: Dataset | TextRows) -> TextRows:
    """Returns the text of the dataset's rows.

    Raises:
        `ValueError`: If no column holds text.
    """
    return dataset if isinstance(dataset, TextRows) else TextRows(dataset)


def read_keys(rows: TextRows, embedder: Embedder | None, first: int, end: int) -> np.ndarray:
    """Checks the rows from `first` to before `end` and returns their keys, (end - first, 2) uint64."""
    parts = [keys_of(batch) for _, batch in read_batches(rows, embedder, first, end)]
    return np.concatenate([np.empty((0, 2), dtype=np.uint64), *parts])


def read_batches(
    rows: TextRows, embedder: Embedder | None, first: int, end: int, bad_rows: BadRows | None = None
) -> Iterator[tuple[int, list[Row]]]:
    """Yields the rows from `first` to before `end` in batches, each with the number of its first row.

    Args:
        rows (`TextRows`):
            The rows.
        embedder (`Embedder`, *optional*):
            Its `check` is called with each batch before it is yielded.
        first (`int`):
            Number of the first row.
        end (`int`):
            Number after the last row.
        bad_rows (`BadRows`, *optional*):
            Collects the rows that cannot be read. Without it, an error names all of them after the last batch.

    Raises:
        `ValueError`: If rows cannot be read, and `bad_rows` was left out.
    """
    all_bad_rows = BadRows() if bad_rows is None else bad_rows
    # The bar shows only where reading takes longer than two seconds.
    with tqdm(total=end - first, desc="checking rows", unit="row", delay=2, leave=False) as bar:
        for start in range(first, end, CHECK_ROWS):
            batch = rows.read(range(start, min(start + CHECK_ROWS, end)))
            if embedder is not None:
                check_batch(embedder, batch, start, all_bad_rows)
            yield start, batch
            bar.update(len(batch))
    if bad_rows is None and len(all_bad_rows):
        raise ValueError(all_bad_rows.message(len(rows)))


def check_batch(embedder: Embedder, batch: Sequence[Row], start: int, bad_rows: BadRows) -> None:
    """Adds the rows of a batch that the embedder cannot embed to `bad_rows`; the batch begins at row `start`."""
    try:
        embedder.check(batch, start)
    except ValueError:
        for number, row in enumerate(batch, start):
            try:
                embedder.check([row], number)
            except ValueError as error:
                bad_rows.add(number, error)


def keys_of(rows: Iterable[Row]) -> np.ndarray:
    """Returns a key of 128 bits for each row, (B, 2) uint64. Names of columns count: they are hashed with the text.

    The order of columns does not count; that of keys within a column does, because chat templates print them in it.
    """
    texts = (_ENCODER.encode(dict(sorted(row.items()))) for row in rows)
    digests = [hashlib.blake2b(text.encode(), digest_size=16).digest() for text in texts]
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2).astype(np.uint64)


def _encode_other_type(value: Any) -> Any:
    """Encodes a value that JSON has no type for, so that it differs from a string of the same letters."""
    return {"type": type(value).__name__, "value": repr(value)}


_ENCODER = json.JSONEncoder(default=_encode_other_type)
