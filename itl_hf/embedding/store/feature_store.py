"""Features on disk: a directory of Arrow files and a manifest.

Work is kept shard by shard, so an interruption costs the shard in flight and no more. The files are what `datasets`
writes itself (Arrow streams with a fixed-size list column): `Dataset.from_file` opens them, numpy maps them without a
copy. Equal rows are stored once; `rows.npy` then says which stored row belongs to which row of the dataset. The price
of all this is that `features()` is read by rows, not computed with. Not covered: more than one run at a time.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from tqdm.auto import tqdm

from itl_hf.embedding.store.atomic_files import DamagedError, is_whole, write_whole
from itl_hf.embedding.store.manifest import DTYPES, NAME, Manifest, require_same
from itl_hf.embedding.store.reader import INDEX, StoredShards
from itl_hf.embedding.store.shards import FEATURES, ROW, Shard, write_shard
from itl_hf.embedding.store.statistics import Statistics

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Fingerprint

_NAMED = 5


class FeatureStore(StoredShards):
    """Feature rows in a directory, `shard_rows` to a file.

    Opening creates the directory, or finds the work that is already there and checks that it is the same work. Shards
    are written whole or not at all; one that was damaged afterwards counts as missing. A finished store is read with
    `FeatureStore.open(directory)`.

    Args:
        directory (`str` or `Path`):
            A new or empty folder, or one that a `FeatureStore` made.
        fingerprint (`dict`):
            What the features were made with, as JSON scalars.
        rows (`int`, *optional*):
            Rows of the dataset. `None` for a stream: `finish` says how many there were.
        dimension (`int`):
            Numbers in a feature row.
        shard_rows (`int`, *optional*, defaults to 512):
            Rows in a shard. A store that exists keeps its own.
        dtype (`str`, *optional*, defaults to `"float32"`):
            `"float32"` or `"float16"`.
        index (`np.ndarray`, *optional*):
            Shape (rows,), int: the stored row of each row of the dataset, numbered in the order in which they first
            occur. Needed to create a store where equal rows are stored once; a store that exists has its own.

    Raises:
        `ValueError`: The directory holds features made otherwise (the message says what differs), or other files.

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
        stored = rows if index is None else int(index.max()) + 1
        wanted = Manifest(dict(fingerprint), dimension, dtype, shard_rows, rows, stored, rows is None).as_stored()
        if not (path / NAME).exists():
            _create(path, wanted, index)
        super().__init__(path, Manifest.read(path))
        require_same(self._manifest.work, wanted.work, path)
        if index is not None and self._manifest.has_index and not is_whole(path / INDEX):
            _write_index(path, index)

    @classmethod
    def open(cls, directory: str | Path) -> FeatureStore:
        """A finished store, to be read. Checksums are compared when a shard is first read.

        Args:
            directory (`str` or `Path`):
                What `embed` was given.

        Raises:
            `FileNotFoundError`: There is no store.
            `ValueError`: It is unfinished; the message says how many shards are missing.

        Example:
            >>> FeatureStore.open("features/pool").features().shape == (len(pool), 32)
            True
        """
        path = Path(directory)
        if not (path / NAME).exists():
            raise FileNotFoundError(f"{path} is not a feature store: it has no {NAME}. embed(...) makes one.")
        store = cls.__new__(cls)
        StoredShards.__init__(store, path, Manifest.read(path))
        if store.rows is None:
            raise ValueError(
                f"{path} is unfinished: its stream was not read to the end ({len(store.shard_numbers())} shards are "
                "there). Embed again into it; what is there is kept."
            )
        missing = sorted(set(range(store.num_shards)) - store.shard_numbers())
        if missing:
            raise ValueError(
                f"{path} is unfinished: {len(missing)} of {store.num_shards} shards are missing (the first is "
                f"{store.path(missing[0]).name}). Embed again into it; what is there is kept."
            )
        return store

    @staticmethod
    def knows_rows(directory: str | Path) -> bool:
        """Whether a store is there that need not be told which rows are equal."""
        path = Path(directory)
        if not (path / NAME).exists():
            return False
        return not Manifest.read(path).has_index or is_whole(path / INDEX)

    def missing(self) -> list[int]:
        """Shards that are absent or damaged, ascending; the damaged ones are named in a warning.

        Each file is read and its checksum compared once per object.
        """
        missing, damaged = [], []
        for shard in tqdm(range(self.num_shards), desc="checking shards", unit="shard", delay=2, leave=False):
            try:
                if shard not in self._intact:
                    self._load(shard)
            except FileNotFoundError:
                missing.append(shard)
            except DamagedError as error:
                missing.append(shard)
                damaged.append(f"{self.path(shard)}: {error}")
        self._warn_damaged(damaged)
        return missing

    def rows_hash(self, shard: int) -> str | None:
        """Hash of the rows that a stream's shard was made from; `None` where it is absent, or damaged (a warning)."""
        try:
            return self._load(shard).facts["rows_hash"]
        except FileNotFoundError:
            return None
        except DamagedError as error:
            self._warn_damaged([f"{self.path(shard)}: {error}"])
            return None

    def trust(self, shards: Iterable[int]) -> None:
        """Take the word of another process that these shards are intact, which spares reading them once more.

        Raises:
            `FileNotFoundError`: One is not there.
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
        """Save a shard: all of it, or nothing if interrupted.

        Args:
            shard (`int`):
                0 to `num_shards` - 1.
            features (`np.ndarray`):
                Shape (rows of the shard, dimension), of the store's dtype.
            columns (`Mapping[str, np.ndarray]`, *optional*):
                More numbers for each row, by name, such as `tokens`, `norm`, `loss`: each of shape (rows of the
                shard,).
            rows_hash (`str`, *optional*):
                For a stream: hash of the rows of this shard.

        Raises:
            `ValueError`: Another shape or dtype, or a column of a reserved name.
            `OSError`: The disk is full; what was saved before is intact.
        """
        first, end = self.row_range(shard)
        height = min(len(features), end - first) if self.rows is None else end - first
        if features.shape != (height, self.dimension) or str(features.dtype) != self.storage_dtype:
            raise ValueError(
                f"shard {shard} takes {self.storage_dtype} of shape {(height, self.dimension)}, got {features.dtype} "
                f"of {features.shape}."
            )
        _check_columns(columns or {}, height)
        occurrences = None if self._occurrences is None else self._occurrences[first:end]
        numbers = self.row_numbers(first, first + height)
        facts = {"shard": str(shard), "work": self._manifest.work_hash, "rows_hash": rows_hash}
        content = {ROW: numbers, **(columns or {})}
        write_shard(self.path(shard), Shard(features, content, Statistics.of(features, occurrences), facts))
        self._intact.add(shard)

    def finish(self, rows: int) -> None:
        """Say how many rows a stream had.

        Raises:
            `ValueError`: The store holds shards beyond them, or had another number before.
        """
        surplus = sorted(shard for shard in self.shard_numbers() if shard * self.shard_rows >= rows)
        if surplus or self.rows not in (None, rows):
            held = self.path(surplus[0]).name if surplus else f"{self.rows} rows"
            raise ValueError(
                f"the stream ended after {rows} rows, but {self.directory} holds {held}: it was made from a longer "
                "stream. Choose another directory, or delete this one."
            )
        if self.rows is None:
            self._manifest = replace(self._manifest, rows=rows, stored_rows=rows)
            self._manifest.write(self.directory)

    def reload(self) -> None:
        """Read the manifest again, after another process has finished the store."""
        self._manifest = Manifest.read(self.directory)

    def _warn_damaged(self, damaged: list[str]) -> None:
        if damaged:
            more = f"\n  and {len(damaged) - _NAMED} more" if len(damaged) > _NAMED else ""
            warnings.warn(
                "damaged files count as missing and are computed again:\n  " + "\n  ".join(damaged[:_NAMED]) + more,
                stacklevel=3,
            )


def _create(directory: Path, manifest: Manifest, index: np.ndarray | None) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    # A run may have been killed between the two files, or in the midst of one.
    others = [path.name for path in directory.glob("*") if path.suffix != ".tmp" and path.name != INDEX]
    if others:
        raise ValueError(
            f"{directory} is not a feature store: it has files ({', '.join(sorted(others)[:3])}) but no {NAME}. "
            "Choose a new or empty directory."
        )
    if manifest.has_index and index is not None:
        _write_index(directory, index)
    manifest.write(directory)


def _write_index(directory: Path, index: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, np.asarray(index, dtype=np.int64), allow_pickle=False)
    write_whole(directory / INDEX, file.getvalue())


def _check_columns(columns: Mapping[str, np.ndarray], height: int) -> None:
    for name, column in columns.items():
        if name in (FEATURES, ROW):
            raise ValueError(f"a column of an embedder cannot be called {name!r}: the store has its own.")
        if column.shape != (height,):
            raise ValueError(f"column {name!r} must have one number for each of {height} rows, got {column.shape}.")
