"""Reading what a store holds: rows, columns and statistics, shard by shard."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.embedding.store.atomic_files import DamagedError, is_whole
from itl_hf.embedding.store.manifest import Manifest
from itl_hf.embedding.store.shards import FEATURES, Shard, read_shard
from itl_hf.embedding.store.statistics import Statistics, centred_products
from itl_hf.embedding.store.stored_features import StoredFeatures

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Fingerprint

INDEX = "rows.npy"


class StoredShards:
    """The part of a `FeatureStore` that reads.

    Args:
        directory (`Path`):
            Where the shards are.
        manifest (`Manifest`):
            What they should be.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self._manifest = manifest
        #: Shards whose checksum was right, or that were written here.
        self._intact: set[int] = set()

    @property
    def fingerprint(self) -> Fingerprint:
        """What the features were made with."""
        return dict(self._manifest.fingerprint)

    @property
    def rows(self) -> int | None:
        """Rows of the dataset; `None` for a stream that has not ended."""
        return self._manifest.rows

    @property
    def num_rows(self) -> int:
        """Rows of the dataset.

        Raises:
            `ValueError`: A stream has not ended, so nobody knows.
        """
        return self._known(self._manifest.rows)

    @property
    def stored_rows(self) -> int:
        """Rows in the shards of the finished store: each distinct row once."""
        return self._known(self._manifest.stored_rows)

    @property
    def dimension(self) -> int:
        """Numbers in a feature row."""
        return self._manifest.dimension

    @property
    def shard_rows(self) -> int:
        """Rows in a shard; the last may have fewer."""
        return self._manifest.shard_rows

    @property
    def storage_dtype(self) -> str:
        """`"float32"` or `"float16"`."""
        return self._manifest.storage_dtype

    @property
    def streamed(self) -> bool:
        """Whether the rows came from a stream."""
        return self._manifest.streamed

    @property
    def num_shards(self) -> int:
        """Shards in the finished store."""
        return -(-self.stored_rows // self.shard_rows)

    @cached_property
    def index(self) -> np.ndarray | None:
        """Stored row of each row of the dataset, (rows,) int64, memory-mapped; `None` where they are the same.

        Raises:
            `ValueError`: Its file is absent or damaged.
        """
        if not self._manifest.has_index:
            return None
        path = self.directory / INDEX
        if not is_whole(path):
            raise ValueError(f"{path} is absent or damaged: embed the dataset again into {self.directory}.")
        return np.asarray(np.load(path, mmap_mode="r"))

    def row_numbers(self, first: int, end: int) -> np.ndarray:
        """The rows of the dataset that the stored rows from `first` to before `end` are made from, (end - first,)."""
        return np.arange(first, end) if self._manifest.rows is None or self.index is None else self._earliest[first:end]

    @cached_property
    def _earliest(self) -> np.ndarray:
        index = np.asarray(self.index)
        seen = np.maximum.accumulate(np.concatenate([[-1], index[:-1]]))
        return np.flatnonzero(index > seen)  # (stored rows,)

    @cached_property
    def _occurrences(self) -> np.ndarray | None:
        """How often the dataset holds each stored row, (stored rows,)."""
        return None if self.index is None else np.bincount(self.index, minlength=self.stored_rows)

    def path(self, shard: int) -> Path:
        """The file of a shard."""
        return self.directory / f"shard-{shard:05d}.arrow"

    def shard_numbers(self) -> set[int]:
        """Shards whose files exist, damaged or not."""
        return {int(path.stem.removeprefix("shard-")) for path in self.directory.glob("shard-*.arrow")}

    def row_range(self, shard: int) -> tuple[int, int]:
        """Half-open range (first, end) of the stored rows of `shard`."""
        first = shard * self.shard_rows
        if self.rows is None and shard >= 0:
            return first, first + self.shard_rows
        if not 0 <= shard < self.num_shards:
            raise IndexError(f"shard {shard} is out of range: the store has {self.num_shards}.")
        return first, min(first + self.shard_rows, self.stored_rows)

    def height(self, shard: int) -> int:
        """Rows in `shard`."""
        first, end = self.row_range(shard)
        return end - first

    def shard(self, shard: int) -> np.ndarray:
        """The rows of one shard, memory-mapped and read-only; `torch.from_numpy` of it is no copy either.

        Returns:
            `np.ndarray`: shape (rows of the shard, dimension).

        Raises:
            `ValueError`: The shard is absent or damaged.
        """
        return self._read(shard).features

    def features(self) -> StoredFeatures:
        """All rows of the dataset, read from the disk as they are asked for.

        Returns:
            `StoredFeatures`: shape (rows, dimension).

        Raises:
            `ValueError`: A shard is absent or damaged.
        """
        missing = sorted(set(range(self.num_shards)) - self._intact - self.shard_numbers())
        if missing:
            self._read(missing[0])  # says what is missing
        return StoredFeatures(self)

    def column(self, name: str) -> np.ndarray:
        """One number for each row of the dataset: `row`, or what the embedder gave, such as `tokens`.

        Returns:
            `np.ndarray`: shape (rows,). `row` is where a row of this text stands first.

        Raises:
            `ValueError`: There is no such column.
        """
        parts = []
        for shard in range(self.num_shards):
            columns = self._read(shard).columns
            if name not in columns:
                raise ValueError(f"{self.path(shard)} has no column {name!r}; it has {[FEATURES, *columns]}.")
            parts.append(columns[name].copy())
        stored = np.concatenate(parts) if parts else np.empty(0)
        return stored if self.index is None else stored[self.index]

    def statistics(self, second_moment: bool = False) -> Statistics:
        """Count, mean and spread of all rows of the dataset, without a pass over the features.

        Args:
            second_moment (`bool`, *optional*, defaults to `False`):
                Whether to make the (d, d) matrix of centred products as well, which does take a pass.

        Raises:
            `ValueError`: A shard is absent or damaged.
        """
        zeros = np.zeros(self.dimension)
        merged = Statistics(0, zeros, zeros)
        for shard in range(self.num_shards):
            merged = merged.merge(self._read(shard).statistics)
        if not second_moment:
            return merged
        products = np.zeros((self.dimension, self.dimension))  # (d, d)
        for shard in range(self.num_shards):
            times = None if self._occurrences is None else self._occurrences[slice(*self.row_range(shard))]
            products += centred_products(self.shard(shard), merged.mean, times)
        return Statistics(merged.count, merged.mean, merged.spread, products / max(merged.count, 1))

    def _read(self, shard: int) -> Shard:
        first, end = self.row_range(shard)
        try:
            return self._load(shard)
        except FileNotFoundError:
            reason = "absent"
        except DamagedError as error:
            reason = f"damaged ({error})"
        raise ValueError(
            f"{self.path(shard)} (stored rows {first} to {end - 1}) is {reason}: embed again into {self.directory}."
        )

    def _load(self, shard: int) -> Shard:
        first, end = self.row_range(shard)
        loaded = read_shard(self.path(shard), verify=shard not in self._intact)
        facts, features = loaded.facts, loaded.features
        if (facts.get("work"), facts.get("shard")) != (self._manifest.work_hash, str(shard)):
            raise DamagedError("it belongs to other work, or is another shard")
        fits = len(features) <= end - first if self.rows is None else len(features) == end - first
        if not fits or features.shape[1] != self.dimension or str(features.dtype) != self.storage_dtype:
            raise DamagedError(f"it holds {features.dtype} of shape {features.shape}")
        self._intact.add(shard)
        return loaded

    def _known(self, count: int | None) -> int:
        if count is None:
            raise ValueError(
                f"the stream that {self.directory} is made from has not been read to its end, so the number of its "
                "rows is not known yet."
            )
        return count
