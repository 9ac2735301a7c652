"""The features of a store as an array on disk that is read by rows.

Indexing copies the requested rows and then unmaps the files, so that `gp.Pool` can read a pool larger than memory. The
object itself does not support arithmetic; `np.asarray(features)` loads all rows into memory.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from itl_hf.embedding.store.reader import ShardReader

_BLOCK_ROWS = 4096


class StoredFeatures:
    """Feature rows of a finished `FeatureStore`, in the order of the dataset.

    It can be passed where a matrix of shape (N, d) is read by rows: `features[3]`, `features[10:20]`,
    `features[[5, 2]]` and `features[mask]` each return a new `np.ndarray`. `np.asarray` returns a read-only view of the
    file if the store has one shard and no duplicates, and a copy in memory otherwise.

    Args:
        store (`FeatureStore`):
            A finished store.

    Example:
        >>> import tempfile
        >>> from itl_hf.embedding import FeatureStore
        >>> store = FeatureStore(tempfile.mkdtemp(), {"model": "tiny"}, rows=3, dimension=2)
        >>> store.write(0, np.arange(6, dtype=np.float32).reshape(3, 2))
        >>> store.features()[[2, 0]]
        array([[4., 5.],
               [0., 1.]], dtype=float32)
    """

    ndim = 2

    def __init__(self, store: ShardReader) -> None:
        self.store = store
        self.shape: tuple[int, int] = (store.num_rows, store.dimension)
        self.dtype: np.dtype[Any] = np.dtype(store.storage_dtype)

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"StoredFeatures({str(self.store.directory)!r}, shape={self.shape}, dtype={self.dtype})"

    def __getitem__(self, index: Any) -> np.ndarray:
        if isinstance(index, slice):
            return self._read(np.arange(*index.indices(len(self))))
        if isinstance(index, tuple) or index is None or index is Ellipsis:
            raise IndexError("stored features are read by rows: features[rows], then [:, columns] of what it returns")
        if isinstance(index, list | np.ndarray | torch.Tensor | range | Sequence):
            return self._read(self._row_numbers(index))
        return np.asarray(self._read(self._row_numbers([operator.index(index)]))[0])

    def __iter__(self) -> Iterator[np.ndarray]:
        for first in range(0, len(self), _BLOCK_ROWS):
            yield from self[first : first + _BLOCK_ROWS]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        result_dtype = self.dtype if dtype is None else np.dtype(dtype)
        is_one_file = self.store.num_shards == 1 and self.store.index is None
        if is_one_file and result_dtype == self.dtype and not copy:
            return self.store.shard(0)
        if copy is False:
            raise ValueError("these features cannot be had without a copy: they lie in several files")
        return self[:].astype(result_dtype, copy=False)

    # torch.tensor(features) calls these. Without them it would read the features row by row, as a sequence.
    def __dlpack__(self, **_: Any) -> Any:
        return torch.from_numpy(np.array(self)).__dlpack__()

    def __dlpack_device__(self) -> tuple[int, int]:
        return torch.zeros(0).__dlpack_device__()

    def _row_numbers(self, index: Any) -> np.ndarray:
        numbers = np.asarray(index.cpu() if isinstance(index, torch.Tensor) else index)
        if numbers.dtype == bool:
            if numbers.shape != (len(self),):
                raise IndexError(f"a mask of shape {numbers.shape} does not fit {len(self)} feature rows")
            return np.flatnonzero(numbers)
        if numbers.size == 0:
            return np.empty(0, dtype=np.int64)
        if numbers.ndim != 1 or not np.issubdtype(numbers.dtype, np.integer):
            raise IndexError(f"row numbers must be a list of whole numbers, got {numbers.dtype} of {numbers.shape}")
        outside = numbers[(numbers < -len(self)) | (numbers >= len(self))]
        if len(outside):
            raise IndexError(f"row {int(outside[0])} is not among the {len(self)} feature rows")
        return np.where(numbers < 0, numbers + len(self), numbers).astype(np.int64)

    def _read(self, row_numbers: np.ndarray) -> np.ndarray:
        stored_rows = row_numbers if self.store.index is None else np.asarray(self.store.index[row_numbers])
        rows = np.empty((len(stored_rows), self.shape[1]), dtype=self.dtype)  # (B, d)
        shards = stored_rows // self.store.shard_rows
        order = np.argsort(shards, kind="stable")
        for positions in np.split(order, np.flatnonzero(np.diff(shards[order])) + 1):
            if len(positions):
                shard = int(shards[positions[0]])
                # No variable keeps the mapped file, so that it is unmapped before the next one is read.
                rows[positions] = self.store.shard(shard)[stored_rows[positions] - shard * self.store.shard_rows]
        return rows
