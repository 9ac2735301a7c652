"""Keeps the numbers of tokens of rows in a store, so that a row is tokenized once for all selections with a budget.

A file for each tokenizer: `.npy` of shape (3, M), uint64, with the two halves of each row's key and its number of
tokens, ascending by the first half: 24 bytes a row. It ends with a checksum, as the other files of a store. The counts
belong to rows and to a tokenizer, not to a dataset: of a pool that has changed, only the new rows are counted.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path

import numpy as np

from itl_hf import distributed
from itl_hf.embedding.store.atomic_files import DamagedError, lock_for_writing, read_verified, write_atomic

#: Name of the folder of these files within a store or within the default cache.
COUNTS_FOLDER = "token_counts"
#: How long to wait for another run that writes counts.
_WAIT_SECONDS = 10.0


class TokenCountTable:
    """Numbers of tokens of rows, by one tokenizer.

    Args:
        folder (`Path`):
            Where the file is, or will be.
        identity (`str`):
            Hash of everything that determines the number of tokens except the row; the name of the file.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> keys = np.array([[5, 1], [2, 9]], dtype=np.uint64)
        >>> TokenCountTable(folder, "0a").keep(keys, np.array([7, 3]))
        >>> TokenCountTable(folder, "0a").lookup(keys[::-1]).tolist()
        [3, 7]
    """

    def __init__(self, folder: Path, identity: str) -> None:
        self.path = folder / f"{identity}.npy"
        self._table = self._read()

    def lookup(self, keys: np.ndarray) -> np.ndarray:
        """Returns the number of tokens of each row, (B, 2) uint64 -> (B,) int64; 0 where it is not known."""
        counts = np.zeros(len(keys), dtype=np.int64)
        if not len(keys) or not self._table.shape[1]:
            return counts
        places = np.searchsorted(self._table[0], keys[:, 0])
        places = np.minimum(places, self._table.shape[1] - 1)
        is_same = (self._table[0][places] == keys[:, 0]) & (self._table[1][places] == keys[:, 1])
        counts[is_same] = self._table[2][places[is_same]]
        return counts

    def keep(self, keys: np.ndarray, counts: np.ndarray) -> None:
        """Adds the rows that are not in the file yet. Where it cannot be written, they are counted again next time.

        Args:
            keys (`np.ndarray`):
                (N, 2) uint64.
            counts (`np.ndarray`):
                (N,) int; rows with 0 tokens, which could not be read, are left out.
        """
        if not self._unknown(keys, counts).any():
            return
        with contextlib.suppress(OSError):  # a read-only disk, a full one, or another run that writes for long
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with lock_for_writing(self.path.parent, _WAIT_SECONDS):
                self._table = self._read(warn=False)  # another run may have added rows
                is_new = self._unknown(keys, counts)
                self._table = _merge(self._table, keys[is_new], counts[is_new])
                write_atomic(self.path, _npy_bytes(self._table))

    def _unknown(self, keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
        is_unknown: np.ndarray = (counts > 0) & (self.lookup(keys) == 0)
        return is_unknown

    def _read(self, warn: bool = True) -> np.ndarray:
        """Returns the content of the file, memory-mapped, (3, M); without rows if there is none or it is damaged."""
        try:
            read_verified(self.path)
            table: np.ndarray = np.asarray(np.load(self.path, mmap_mode="r", allow_pickle=False))
            if table.dtype != np.uint64 or table.ndim != 2 or len(table) != 3:
                raise DamagedError(f"it holds {table.dtype} of shape {table.shape}")
            return table
        except DamagedError as error:
            if warn and distributed.rank() == 0:
                warnings.warn(f"{self.path} is damaged: {error}. Its rows are tokenized again.", stacklevel=2)
        except (OSError, ValueError):  # none, or it cannot be read
            pass
        return np.empty((3, 0), dtype=np.uint64)


def num_rows_kept(folder: Path) -> int:
    """Returns how many rows the files in a folder hold counts of."""
    total = 0
    for path in folder.glob("*.npy"):
        with contextlib.suppress(OSError, ValueError):
            total += np.load(path, mmap_mode="r", allow_pickle=False).shape[-1]
    return total


def _merge(table: np.ndarray, keys: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Adds rows to a table, each key once, and sorts it by the keys, (3, M)."""
    rows = np.concatenate([table, np.stack([keys[:, 0], keys[:, 1], counts.astype(np.uint64)])], axis=1)
    rows = rows[:, np.lexsort((rows[1], rows[0]))]
    is_first = np.ones(rows.shape[1], dtype=bool)
    is_first[1:] = (rows[:2, 1:] != rows[:2, :-1]).any(axis=0)
    return np.ascontiguousarray(rows[:, is_first])


def _npy_bytes(table: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, table, allow_pickle=False)
    return file.getvalue()
