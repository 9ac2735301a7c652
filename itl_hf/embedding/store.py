"""Features on disk: a directory of Arrow files and a manifest.

Work is kept shard by shard, so an interruption costs the shard in flight and no more. The files are what `datasets`
writes itself (Arrow streams with a fixed-size list column): `Dataset.from_file` opens them, numpy maps them without a
copy. The price of shards is that `features()` copies when there are several of them; `shard()` never does. Not covered:
more than one writer of the same shard.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from itl_hf.embedding.embedder import Fingerprint

_FORMAT = 1
_COLUMN = "features"


class FeatureStore:
    """Feature rows in a directory, `shard_rows` to a file.

    Opening creates the directory, or finds the work that is already there and checks that it is the same work. Shards
    are written whole or not at all; one that was damaged afterwards counts as missing.

    Args:
        directory (`str` or `Path`):
            A new or empty folder, or one that a `FeatureStore` made.
        fingerprint (`dict`):
            What the features were made with, as JSON scalars.
        rows (`int`):
            Feature rows in the finished store.
        dimension (`int`):
            Numbers in a feature row.
        shard_rows (`int`, *optional*, defaults to 512):
            Rows in a shard. A store that exists keeps its own.

    Raises:
        ValueError: the directory holds features made otherwise (the message says what differs), or other files.

    Example:
        >>> store = FeatureStore("features/pool", {"model": "tiny"}, rows=3, dimension=2)
        >>> store.write(0, np.ones((3, 2), dtype=np.float32))
        >>> store.missing(), store.features().shape
        ([], (3, 2))
    """

    def __init__(
        self, directory: str | Path, fingerprint: Fingerprint, *, rows: int, dimension: int, shard_rows: int = 512
    ) -> None:
        if shard_rows < 1:
            raise ValueError(f"shard_rows must be at least 1, got {shard_rows}.")
        self.directory = Path(directory)
        self.fingerprint = dict(fingerprint)
        self.rows = rows
        self.dimension = dimension
        self.shard_rows = shard_rows
        self._intact: set[int] = set()
        self._open()

    def _open(self) -> None:
        wanted = {"rows": self.rows, "dimension": self.dimension, **self.fingerprint}
        manifest = self._read_manifest()
        if manifest is None:
            self.directory.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"format": _FORMAT, "shard_rows": self.shard_rows, "fingerprint": wanted}, indent=2)
            with _atomic(self._manifest) as file:
                file.write(text.encode())
            return
        found = manifest["fingerprint"]
        # Through JSON and back, so that what is compared is what would be stored.
        _require_same(found, json.loads(json.dumps(wanted)), self.directory)
        self.shard_rows = int(manifest["shard_rows"])

    def _read_manifest(self) -> dict[str, Any] | None:
        if not self._manifest.exists():
            others = [path.name for path in self.directory.glob("*") if not path.name.endswith(".tmp")]
            if others:
                raise ValueError(
                    f"{self.directory} is not a feature store: it has files ({', '.join(sorted(others)[:3])}) but no "
                    "manifest.json. Choose a new or empty directory."
                )
            return None
        try:
            manifest = json.loads(self._manifest.read_text())
            intact = (
                manifest["format"] == _FORMAT
                and isinstance(manifest["fingerprint"], dict)
                and manifest["shard_rows"] > 0
            )
        except (ValueError, KeyError, TypeError):
            intact = False
        if not intact:
            raise ValueError(
                f"{self._manifest} is damaged or of another version. Delete {self.directory} to compute it anew."
            )
        return manifest  # type: ignore[no-any-return]

    @property
    def _manifest(self) -> Path:
        return self.directory / "manifest.json"

    def _path(self, shard: int) -> Path:
        return self.directory / f"shard-{shard:05d}.arrow"

    @property
    def num_shards(self) -> int:
        """Shards in the finished store."""
        return -(-self.rows // self.shard_rows)

    def row_range(self, shard: int) -> tuple[int, int]:
        """Half-open range (first, end) of the rows of `shard`."""
        if not 0 <= shard < self.num_shards:
            raise IndexError(f"shard {shard} is out of range: the store has {self.num_shards}.")
        first = shard * self.shard_rows
        return first, min(first + self.shard_rows, self.rows)

    def missing(self) -> list[int]:
        """Shards that are absent or damaged, ascending. Each file is read and its checksum compared once per object."""
        return [shard for shard in range(self.num_shards) if shard not in self._intact and self._load(shard) is None]

    def write(self, shard: int, features: np.ndarray) -> None:
        """Save a shard: all of it, or nothing if interrupted.

        Args:
            shard (`int`):
                0 to `num_shards` - 1.
            features (`np.ndarray`):
                Shape (rows of the shard, dimension), float32.

        Raises:
            ValueError: another shape or dtype.
        """
        first, end = self.row_range(shard)
        if features.shape != (end - first, self.dimension) or features.dtype != np.float32:
            raise ValueError(
                f"shard {shard} takes float32 of shape {(end - first, self.dimension)}, got {features.dtype} of "
                f"{features.shape}."
            )
        values = np.ascontiguousarray(features)
        column = pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), self.dimension)
        table = pa.table({_COLUMN: column}).replace_schema_metadata({"sha256": _checksum(values)})
        for stale in self.directory.glob(f"{self._path(shard).name}.*.tmp"):
            stale.unlink(missing_ok=True)
        with _atomic(self._path(shard)) as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table, max_chunksize=self.shard_rows)
        self._intact.add(shard)

    def shard(self, shard: int) -> np.ndarray:
        """The rows of one shard, memory-mapped and read-only.

        Returns:
            `np.ndarray`: shape (rows of the shard, dimension), float32.

        Raises:
            ValueError: the shard is absent or damaged.
        """
        first, end = self.row_range(shard)
        features = self._load(shard)
        if features is None:
            raise ValueError(
                f"{self._path(shard)} (rows {first} to {end - 1}) is absent or damaged: embed again into "
                f"{self.directory}."
            )
        return features

    def features(self) -> np.ndarray:
        """All rows: memory-mapped if there is one shard, in memory otherwise.

        Returns:
            `np.ndarray`: shape (rows, dimension), float32.

        Raises:
            ValueError: a shard is absent or damaged.
        """
        if self.num_shards == 1:
            return self.shard(0)
        features = np.empty((self.rows, self.dimension), dtype=np.float32)  # (N, d)
        for shard in range(self.num_shards):
            first, end = self.row_range(shard)
            features[first:end] = self.shard(shard)
        return features

    def _load(self, shard: int) -> np.ndarray | None:
        first, end = self.row_range(shard)
        try:
            with pa.memory_map(str(self._path(shard))) as source:
                table = pa.ipc.open_stream(source).read_all()
            values = table.column(_COLUMN).combine_chunks().flatten().to_numpy()
            expected = (table.schema.metadata or {})[b"sha256"].decode()
        except (OSError, pa.ArrowException, KeyError, ValueError, AttributeError):
            return None
        if values.dtype != np.float32 or values.size != (end - first) * self.dimension:
            return None
        if shard not in self._intact and _checksum(values) != expected:
            return None
        self._intact.add(shard)
        return np.asarray(values).reshape(end - first, self.dimension)


def _require_same(found: Mapping[str, Any], wanted: Mapping[str, Any], directory: Path) -> None:
    absent = object()
    differing = [
        f"{key}: {found.get(key, '(none)')!r} there, {wanted.get(key, '(none)')!r} now"
        for key in dict.fromkeys([*wanted, *found])
        if found.get(key, absent) != wanted.get(key, absent)
    ]
    if differing:
        raise ValueError(
            f"{directory} holds features made from other inputs or with other settings:\n  "
            + "\n  ".join(differing)
            + "\n"
            "Choose another directory, delete this one, or go back to those settings."
        )


@contextlib.contextmanager
def _atomic(path: Path) -> Iterator[BinaryIO]:
    """A file that appears under its name only when it is complete and on the disk."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _checksum(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
