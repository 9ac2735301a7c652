"""Reads what a store holds shard by shard: features, columns and statistics."""

from __future__ import annotations

import hashlib
import re
from functools import cached_property
from pathlib import Path

import numpy as np

from itl_hf.embedding.store.atomic_files import DamagedError, is_intact, written_checksum
from itl_hf.embedding.store.manifest import Manifest
from itl_hf.embedding.store.shards import FEATURES, Shard, read_shard
from itl_hf.embedding.store.statistics import Statistics, centred_products

INDEX_NAME = "rows.npy"
_SHARD_NAME = re.compile(r"shard-(\d{5,12})\.arrow", re.ASCII)


class ShardReader:
    """The part of a `FeatureStore` that reads.

    Args:
        directory (`Path`):
            Where the shards are.
        manifest (`Manifest`):
            What the shards must hold.

    Attributes:
        directory (`Path`):
            Where the shards are.
        fingerprint (`dict`):
            What the features were made with.
        rows (`int`, *optional*):
            Number of rows of the dataset; `None` for a stream that has not ended.
        dimension (`int`):
            Length of a feature row.
        shard_rows (`int`):
            Number of rows in a shard; the last may have fewer.
        storage_dtype (`str`):
            `"float32"` or `"float16"`.
        is_stream (`bool`):
            Whether the rows came from a stream.
    """

    def __init__(self, directory: Path, manifest: Manifest) -> None:
        self.directory = directory
        self._set_manifest(manifest)
        #: Shards whose checksum was right, or that this object wrote.
        self._intact: set[int] = set()

    def _set_manifest(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self.fingerprint = dict(manifest.fingerprint)
        self.rows, self.is_stream = manifest.rows, manifest.is_stream
        self.dimension, self.storage_dtype = manifest.dimension, manifest.storage_dtype
        self.shard_rows = manifest.shard_rows

    @property
    def num_rows(self) -> int:
        """Number of rows of the dataset.

        Raises:
            `ValueError`: If a stream has not ended, so that the number is unknown.
        """
        if self.rows is None:
            raise ValueError(
                f"the stream that {self.directory} is made from has not been read to its end, so the number of its "
                "rows is not known yet."
            )
        return self.rows

    @property
    def stored_rows(self) -> int:
        """Number of rows in the shards of the finished store, where equal rows are stored once."""
        stored_rows = self._manifest.stored_rows
        return self.num_rows if stored_rows is None else stored_rows  # if it is unknown, `num_rows` raises the error

    @property
    def num_shards(self) -> int:
        """Number of shards of the finished store."""
        return -(-self.stored_rows // self.shard_rows)

    @cached_property
    def index(self) -> np.ndarray | None:
        """For each row of the dataset, the number of its stored row, (rows,) int64, memory-mapped.

        `None` if the two are the same.

        Raises:
            `ValueError`: If the file of the index is absent or damaged.
        """
        if not self._manifest.has_index:
            return None
        path = self.directory / INDEX_NAME
        if not is_intact(path):
            raise ValueError(f"{path} is absent or damaged: embed the dataset again into {self.directory}.")
        index = np.asarray(np.load(path, mmap_mode="r"))
        is_fitting = index.shape == (self.rows,) and index.dtype == np.int64
        if not is_fitting or (len(index) and not 0 <= index.min() <= index.max() < self.stored_rows):
            raise ValueError(f"{path} is of another store: embed the dataset again into {self.directory}.")
        return index

    def row_numbers(self, first: int, end: int) -> np.ndarray:
        """Returns the row of the dataset that each stored row from `first` to before `end` is made from.

        If several rows are equal, it is the first of them. Shape (end - first,).
        """
        return np.arange(first, end) if self.rows is None or self.index is None else self._first_rows[first:end]

    @cached_property
    def _first_rows(self) -> np.ndarray:
        index = np.asarray(self.index)
        largest_before = np.maximum.accumulate(np.concatenate([[-1], index[:-1]]))
        return np.flatnonzero(index > largest_before)  # (stored rows,)

    @cached_property
    def _occurrences(self) -> np.ndarray | None:
        """How many rows of the dataset equal each stored row, (stored rows,)."""
        return None if self.index is None else np.bincount(self.index, minlength=self.stored_rows)

    def path(self, shard: int) -> Path:
        """Returns the file of a shard."""
        return self.directory / f"shard-{shard:05d}.arrow"

    def checksum(self) -> str:
        """Returns a checksum of all features, from those at the ends of the files.

        Raises:
            `ValueError`: If a shard is absent.
        """
        digest = hashlib.sha256(self._manifest.identity_hash.encode())
        paths = [self.path(shard) for shard in range(self.num_shards)]
        for path in [*paths, *([self.directory / INDEX_NAME] if self._manifest.has_index else [])]:
            try:
                digest.update(written_checksum(path))
            except FileNotFoundError:
                raise ValueError(f"{path} is absent: embed again into {self.directory}.") from None
        return digest.hexdigest()

    def shard_numbers(self) -> set[int]:
        """Returns the numbers of the shards whose files exist, damaged or not."""
        names = (_SHARD_NAME.fullmatch(path.name) for path in self.directory.glob("shard-*.arrow"))
        return {int(name[1]) for name in names if name}  # others are stray files, such as copies by hand

    def first_missing(self, numbers: set[int]) -> int | None:
        """Returns the first shard that is not among these numbers; `None` if all are."""
        return next((shard for shard in range(self.num_shards) if shard not in numbers), None)

    def row_range(self, shard: int) -> tuple[int, int]:
        """Returns the half-open range (first, end) of the stored rows of `shard`."""
        first = shard * self.shard_rows
        if self.rows is None and shard >= 0:
            return first, first + self.shard_rows
        if not 0 <= shard < self.num_shards:
            raise IndexError(f"shard {shard} is out of range: the store has {self.num_shards}.")
        return first, min(first + self.shard_rows, self.stored_rows)

    def shard(self, shard: int) -> np.ndarray:
        """Returns the features of one shard, memory-mapped and read-only. `torch.from_numpy` does not copy them.

        Returns:
            `np.ndarray`: Shape (rows of the shard, dimension).

        Raises:
            `ValueError`: If the shard is absent or damaged.
        """
        return self._read_shard(shard).features

    def column(self, name: str) -> np.ndarray:
        """Returns one number for each row of the dataset: `row`, or a column of the embedder such as `tokens`.

        Returns:
            `np.ndarray`: Shape (rows,). `row` is the number of the first row with the same text.

        Raises:
            `ValueError`: If there is no such column.
        """
        parts = []
        for shard in range(self.num_shards):
            columns = self._read_shard(shard).columns
            if name not in columns:
                raise ValueError(f"{self.path(shard)} has no column {name!r}; it has {[FEATURES, *columns]}.")
            parts.append(columns[name].copy())
        values = np.concatenate(parts) if parts else np.empty(0)
        return values if self.index is None else values[self.index]

    def statistics(self, second_moment: bool = False) -> Statistics:
        """Returns count, mean and spread of all rows of the dataset from what the shards store of them.

        Args:
            second_moment (`bool`, *optional*, defaults to `False`):
                Whether to compute the (d, d) matrix of centred products too, which takes a pass over the features.

        Raises:
            `ValueError`: If a shard is absent or damaged.
        """
        zeros = np.zeros(self.dimension)
        total = Statistics(0, zeros, zeros)
        for shard in range(self.num_shards):
            total = total.merge(self._read_shard(shard).statistics)
        if not second_moment:
            return total
        products = np.zeros((self.dimension, self.dimension))  # (d, d)
        for shard in range(self.num_shards):
            weights = None if self._occurrences is None else self._occurrences[slice(*self.row_range(shard))]
            products += centred_products(self.shard(shard), total.mean, weights)
        return Statistics(total.count, total.mean, total.spread, products / max(total.count, 1))

    def _read_shard(self, shard: int) -> Shard:
        """As `_load_shard`, with a `ValueError` that names the rows and says what to do."""
        first, end = self.row_range(shard)
        try:
            return self._load_shard(shard)
        except FileNotFoundError:
            reason = "absent"
        except DamagedError as error:
            reason = f"damaged ({error})"
        raise ValueError(
            f"{self.path(shard)} (stored rows {first} to {end - 1}) is {reason}: embed again into {self.directory}."
        )

    def _load_shard(self, shard: int) -> Shard:
        first, end = self.row_range(shard)
        content = read_shard(self.path(shard), verify=shard not in self._intact)
        facts, features = content.facts, content.features
        if (facts.get("work"), facts.get("shard")) != (self._manifest.identity_hash, str(shard)):
            raise DamagedError("it belongs to another store, or is another shard")
        fits = len(features) <= end - first if self.rows is None else len(features) == end - first
        if not fits or features.shape[1] != self.dimension or str(features.dtype) != self.storage_dtype:
            raise DamagedError(f"it holds {features.dtype} of shape {features.shape}")
        self._intact.add(shard)
        return content
