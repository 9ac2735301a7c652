"""Features on disk: a directory of Arrow files and a manifest.

Each shard is a file of its own, so that an interruption costs only the shard being embedded. The files have the format
of `datasets` (Arrow streams with a fixed-size list column): `Dataset.from_file` opens them, NumPy maps them without a
copy. Equal rows are stored once; `rows.npy` then maps each row of the dataset to its stored row. In return,
`features()` can only be read by rows and does not support arithmetic. Only one run at a time can write.
"""

from __future__ import annotations

import io
import json
import time
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from itl_hf.disk.checks import foreign_names
from itl_hf.embedding.store.atomic_files import DamagedError, is_intact, lock_for_writing, write_atomic
from itl_hf.embedding.store.manifest import DTYPES, MANIFEST_NAME, Manifest, require_same_identity
from itl_hf.embedding.store.reader import INDEX_NAME, ShardReader
from itl_hf.embedding.store.shards import FEATURES, ROW, Shard, write_shard
from itl_hf.embedding.store.statistics import Statistics
from itl_hf.embedding.store.stored_features import StoredFeatures

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Fingerprint

#: Seconds to wait for another process that makes the same store.
_CREATION_SECONDS = 60.0
#: Seconds after which it is looked whether the other process has made it.
_POLL_SECONDS = 0.5
#: Most damaged files that a warning lists.
_MOST_LISTED = 5


class FeatureStore(ShardReader):
    """Feature rows in a directory, `shard_rows` to a file.

    The constructor creates the directory, or opens the store in it and checks that its features are made from the same
    inputs with the same settings. Shards are written completely or not at all; one that was damaged afterwards counts
    as missing. To read a finished store, use `FeatureStore.open(directory)`.

    Args:
        directory (`str` or `Path`):
            A new or empty folder, or one that a `FeatureStore` made.
        fingerprint (`dict`):
            What the features were made with, as JSON scalars.
        rows (`int`, *optional*):
            Number of rows of the dataset. `None` for a stream: `finish` stores the number at its end.
        dimension (`int`):
            Length of a feature row.
        shard_rows (`int`, *optional*, defaults to 512):
            Number of rows in a shard. An existing store keeps its own number.
        dtype (`str`, *optional*, defaults to `"float32"`):
            `"float32"` or `"float16"`.
        index (`np.ndarray`, *optional*):
            Shape (rows,), int: the number of the stored row of each row of the dataset. Stored rows are numbered by
            first occurrence. It is required to create a store in which equal rows are stored once; an existing store
            has its own.

    Raises:
        `ValueError`: If the directory holds features made from other inputs or with other settings (the message lists
            the differences), or other files.

    Example:
        >>> import tempfile
        >>> store = FeatureStore(tempfile.mkdtemp(), {"model": "tiny"}, rows=3, dimension=2)
        >>> store.write(0, np.ones((3, 2), dtype=np.float32))
        >>> store.missing(), store.features().shape
        ([], (3, 2))
    """

    def __init__(
        self,
        directory: str | Path,
        fingerprint: Fingerprint,
        *,
        rows: int | None,
        dimension: int,
        shard_rows: int = 512,
        dtype: str = "float32",
        index: np.ndarray | None = None,
    ) -> None:
        if shard_rows < 1:
            raise ValueError(f"shard_rows must be at least 1, got {shard_rows}.")
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {DTYPES}, got {dtype!r}.")
        path = Path(directory)
        stored_rows = rows if index is None else int(index.max()) + 1
        # Compared with what was read from JSON, so it takes the same way.
        json_fingerprint = json.loads(json.dumps(dict(fingerprint)))
        requested_manifest = Manifest(
            json_fingerprint, dimension, dtype, shard_rows, rows, stored_rows, is_stream=rows is None
        )
        if not (path / MANIFEST_NAME).exists():
            _create(path, requested_manifest, index)
        super().__init__(path, Manifest.read(path))
        require_same_identity(self._manifest.identity, requested_manifest.identity, path)
        if index is not None and self._manifest.has_index and not is_intact(path / INDEX_NAME):
            with lock_for_writing(path, _CREATION_SECONDS):
                _write_index(path, index)

    @classmethod
    def open(cls, directory: str | Path) -> FeatureStore:
        """Opens a finished store for reading. The checksum of a shard is compared when it is first read.

        Args:
            directory (`str` or `Path`):
                The directory that was passed to `embed`.

        Raises:
            `FileNotFoundError`: If there is no store.
            `ValueError`: If it is unfinished; the message says how many shards are missing.

        Example:
            >>> FeatureStore.open("features/pool").features().shape == (len(pool), 32)
            True
        """
        path = Path(directory)
        if not (path / MANIFEST_NAME).exists():
            raise FileNotFoundError(f"{path} is not a feature store: it has no {MANIFEST_NAME}. embed(...) makes one.")
        store = cls.__new__(cls)
        ShardReader.__init__(store, path, Manifest.read(path))
        if store.rows is None:
            raise ValueError(
                f"{path} is unfinished: its stream was not read to the end ({len(store.shard_numbers())} shards are "
                "there). Embed again into it; what is there is kept."
            )
        first_missing = store.first_missing(store.shard_numbers())
        if first_missing is not None:
            num_missing = store.num_shards - sum(number < store.num_shards for number in store.shard_numbers())
            raise ValueError(
                f"{path} is unfinished: {num_missing} of {store.num_shards} shards are missing (the first is "
                f"{store.path(first_missing).name}). Embed again into it; what is there is kept."
            )
        return store

    @staticmethod
    def requires_index(directory: str | Path) -> bool:
        """Returns whether `index` must be computed to open a store here: there is no store, or its index is damaged."""
        path = Path(directory)
        if not (path / MANIFEST_NAME).exists():
            return True
        return Manifest.read(path).has_index and not is_intact(path / INDEX_NAME)

    def features(self) -> StoredFeatures:
        """Returns all rows of the dataset as an array on disk, which is read when it is indexed.

        Returns:
            `StoredFeatures`: Shape (rows, dimension).

        Raises:
            `ValueError`: If a shard is absent or damaged.
        """
        missing = self.first_missing(self._intact | self.shard_numbers())
        if missing is not None:
            self._read_shard(missing)  # raises the error that names it
        return StoredFeatures(self)

    def missing(self) -> list[int]:
        """Returns the shards that are absent or damaged, ascending. A warning names the damaged ones.

        Each file is read and its checksum compared once per object.
        """
        missing, damaged_files = [], []
        for shard in tqdm(range(self.num_shards), desc="checking shards", unit="shard", delay=2, leave=False):
            try:
                if shard not in self._intact:
                    self._load_shard(shard)
            except FileNotFoundError:
                missing.append(shard)
            except DamagedError as error:
                missing.append(shard)
                damaged_files.append(f"{self.path(shard)}: {error}")
        if damaged_files:
            _warn_damaged(damaged_files)
        return missing

    def rows_hash(self, shard: int) -> str | None:
        """Returns the hash of the rows that a stream's shard was made from.

        `None` if the shard is absent, or damaged; a warning names a damaged one.
        """
        try:
            return self._load_shard(shard).facts["rows_hash"]
        except FileNotFoundError:
            return None
        except DamagedError as error:
            _warn_damaged([f"{self.path(shard)}: {error}"])
            return None

    def mark_intact(self, shards: Iterable[int]) -> None:
        """Records that these shards are intact, because another process wrote or checked them, without reading them.

        Raises:
            `FileNotFoundError`: If the file of a shard does not exist.
        """
        absent = sorted(set(shards) - self.shard_numbers())
        if absent:
            raise FileNotFoundError(
                f"{self.path(absent[0])} was written by another process but is not seen by this one: the directory "
                "must be on a file system that all processes share."
            )
        self._intact.update(shards)

    def write(
        self,
        shard: int,
        features: np.ndarray,
        columns: Mapping[str, np.ndarray] | None = None,
        *,
        rows_hash: str = "",
    ) -> None:
        """Writes a shard completely or, if interrupted, not at all.

        Args:
            shard (`int`):
                Number of the shard, 0 to `num_shards` - 1.
            features (`np.ndarray`):
                Shape (rows of the shard, dimension), of the store's dtype.
            columns (`Mapping[str, np.ndarray]`, *optional*):
                Further numbers for each row, by name, such as `tokens`, `norm`, `loss`: each of shape (rows of the
                shard,).
            rows_hash (`str`, *optional*):
                Hash of the rows of this shard, for a stream.

        Raises:
            `ValueError`: If the shape or dtype is wrong, or a column has a reserved name.
            `OSError`: If the disk is full; shards written before are intact.
        """
        first, end = self.row_range(shard)
        num_rows = min(len(features), end - first) if self.rows is None else end - first
        if features.shape != (num_rows, self.dimension) or str(features.dtype) != self.storage_dtype:
            raise ValueError(
                f"shard {shard} takes {self.storage_dtype} of shape {(num_rows, self.dimension)}, got {features.dtype} "
                f"of {features.shape}."
            )
        _check_columns(columns or {}, num_rows)
        occurrences = None if self._occurrences is None else self._occurrences[first:end]
        all_columns = {ROW: self.row_numbers(first, first + num_rows), **(columns or {})}
        facts = {"shard": str(shard), "work": self._manifest.identity_hash, "rows_hash": rows_hash}
        write_shard(self.path(shard), Shard(features, all_columns, Statistics.of(features, occurrences), facts))
        self._intact.add(shard)

    def finish(self, rows: int) -> None:
        """Stores the number of rows of a stream that has ended.

        Raises:
            `ValueError`: If the store holds shards beyond that number, or another number is stored already.
        """
        surplus = sorted(shard for shard in self.shard_numbers() if shard * self.shard_rows >= rows)
        if surplus or self.rows not in (None, rows):
            content = self.path(surplus[0]).name if surplus else f"{self.rows} rows"
            raise ValueError(
                f"the stream ended after {rows} rows, but {self.directory} holds {content}: it was made from a longer "
                "stream. Choose another directory, or delete this one."
            )
        if self.rows is None:
            self._set_manifest(replace(self._manifest, rows=rows, stored_rows=rows))
            self._manifest.write(self.directory)

    def reload(self) -> None:
        """Reads the manifest again, after another process has finished the store."""
        self._set_manifest(Manifest.read(self.directory))


def _warn_damaged(files: list[str]) -> None:
    more = f"\n  and {len(files) - _MOST_LISTED} more" if len(files) > _MOST_LISTED else ""
    warnings.warn(
        "damaged files count as missing and are computed again:\n  " + "\n  ".join(files[:_MOST_LISTED]) + more,
        stacklevel=3,
    )


def _create(directory: Path, manifest: Manifest, index: np.ndarray | None) -> None:
    """Creates the store, unless another process has done so since it was looked for."""
    directory.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + _CREATION_SECONDS
    while not (directory / MANIFEST_NAME).exists():
        try:
            with lock_for_writing(directory, _POLL_SECONDS):
                if not (directory / MANIFEST_NAME).exists():
                    _write_new(directory, manifest, index)
        except BlockingIOError:  # the other process may hold the lock for hours, to embed into what it has created
            if time.monotonic() > deadline and not (directory / MANIFEST_NAME).exists():
                raise


def _write_new(directory: Path, manifest: Manifest, index: np.ndarray | None) -> None:
    # An earlier run may have been killed after writing the index, or while it wrote a file.
    others = [name for name in foreign_names(directory) if not name.endswith(".tmp") and name != INDEX_NAME]
    if others:
        raise ValueError(
            f"{directory} is not a feature store: it has files ({', '.join(others[:3])}) but no "
            f"{MANIFEST_NAME}. Choose a new or empty directory."
        )
    if manifest.has_index and index is not None:
        _write_index(directory, index)
    manifest.write(directory)


def _write_index(directory: Path, index: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, np.asarray(index, dtype=np.int64), allow_pickle=False)
    write_atomic(directory / INDEX_NAME, file.getvalue())


def _check_columns(columns: Mapping[str, np.ndarray], num_rows: int) -> None:
    for name, column in columns.items():
        if name in (FEATURES, ROW):
            raise ValueError(f"a column of an embedder cannot be called {name!r}: the store has its own.")
        if column.shape != (num_rows,):
            raise ValueError(f"column {name!r} must have one number for each of {num_rows} rows, got {column.shape}.")
