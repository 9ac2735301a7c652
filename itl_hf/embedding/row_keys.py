"""The one reading of all rows before a model runs: each is checked and hashed.

A bad row far down fails in seconds, the hash of all rows ties stored features to these very rows, and equal rows are
found, so that each text is embedded once. 16 bytes a row are kept, nothing else.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from itl_hf.text import TEXT_COLUMNS, Row, row_format

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.embedding.embedders.base import Embedder

CHECK_ROWS = 1024


@dataclass(frozen=True)
class RowKeys:
    """128 bits of each row's text.

    Args:
        columns (`Sequence[str]`):
            The columns with text.
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
        """Of all rows in their order: what `rows_fingerprint` gives."""
        digest = hashlib.sha256(json.dumps(sorted(self.columns)).encode())
        digest.update(np.ascontiguousarray(self.keys).data)
        return digest.hexdigest()[:32]

    def index(self) -> np.ndarray | None:
        """For each row the number of its text, (N,) int64, counted as they first occur; `None` if all differ."""
        order = np.lexsort((self.keys[:, 1], self.keys[:, 0]))  # stable: equal rows stay in their order
        ordered = self.keys[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
        if first.all():
            return None
        earliest = order[first]  # (M,) row that each text occurs in first
        rank = np.empty(len(earliest), dtype=np.int64)
        rank[np.argsort(earliest)] = np.arange(len(earliest))
        index = np.empty(len(order), dtype=np.int64)
        index[order] = rank[np.cumsum(first) - 1]
        return index


def row_keys(dataset: Dataset, embedder: Embedder | None = None) -> RowKeys:
    """Reads all rows of a dataset; pass the result to `embed(..., rows_hash=)` and they are not read for it again.

    Args:
        dataset (`Dataset`):
            Rows as `itl_hf.text.row_format` describes them.
        embedder (`Embedder`, *optional*):
            Asked to check each row on the way, if it can.

    Raises:
        `ValueError`: No column with text, or a row that the embedder cannot read.
    """
    rows = text_columns(dataset)
    return RowKeys(rows.column_names, read_keys(rows, embedder, 0, len(rows)))


def rows_fingerprint(dataset: Dataset, embedder: Embedder | None = None) -> str:
    """Hash of the rows' text, whatever else the dataset holds and however it is stored; see `row_keys`."""
    return row_keys(dataset, embedder).hash


def text_columns(dataset: Dataset) -> Dataset:
    """The dataset without what is not text.

    Raises:
        `ValueError`: No column with text.
    """
    row_format(dataset.column_names)
    return dataset.select_columns([name for name in dataset.column_names if name in TEXT_COLUMNS]).with_format(None)


def read_keys(rows: Dataset, embedder: Embedder | None, first: int, end: int) -> np.ndarray:
    """Keys of the rows from `first` to before `end`, (end - first, 2) uint64, each row checked on the way."""
    parts = [np.empty((0, 2), dtype=np.uint64)]
    # The bar shows only where reading takes longer than two seconds.
    with tqdm(total=end - first, desc="checking rows", unit="row", delay=2, leave=False) as bar:
        for start in range(first, end, CHECK_ROWS):
            batch = read_rows(rows, range(start, min(start + CHECK_ROWS, end)))
            if embedder is not None:
                embedder.check(batch, start)
            parts.append(keys_of(batch))
            bar.update(len(batch))
    return np.concatenate(parts)


def read_rows(dataset: Dataset, numbers: range | np.ndarray) -> list[Row]:
    """Rows of these ascending numbers, as dictionaries."""
    in_a_run = int(numbers[-1]) - int(numbers[0]) + 1 == len(numbers)
    columns = dataset[int(numbers[0]) : int(numbers[-1]) + 1] if in_a_run else dataset[numbers]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def keys_of(rows: Iterable[Row]) -> np.ndarray:
    """128 bits of each row, columns and all: the same words under another column are another row. (B, 2) uint64."""
    digests = [hashlib.blake2b(_ENCODER.encode(row).encode(), digest_size=16).digest() for row in rows]
    return np.frombuffer(b"".join(digests), dtype="<u8").reshape(-1, 2).astype(np.uint64)


def _tagged(value: Any) -> Any:
    """What JSON does not know, told apart from the string that would look the same."""
    return {"type": type(value).__name__, "value": repr(value)}


_ENCODER = json.JSONEncoder(sort_keys=True, default=_tagged)
