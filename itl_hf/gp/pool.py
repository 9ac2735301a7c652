"""The pool as blocks of prepared feature rows.

Blocks are aligned to global row numbers, whatever the source (tensor, NumPy array, memory map) and however many
processes share it. A process has whole blocks, so a row is always computed together with the same other rows, and picks
depend neither on the storage nor on the number of processes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp import standardization as preparation
from itl_hf.gp.first_pass import FirstPass
from itl_hf.gp.longest_row import LongestRow
from itl_hf.gp.nystroem import FeatureMap
from itl_hf.gp.quality import Quality
from itl_hf.gp.row_cache import RowCache
from itl_hf.gp.standardization import Preparation, Standardization
from itl_hf.gp.unusable_rows import UnusableRows

BLOCK_ROWS = 8192
#: The largest on a GPU, where starting a small operation takes longer than the operation; a pool has at least
#: `LEAST_BLOCKS` blocks if that many of `BLOCK_ROWS` fit, so that so many processes have work. Neither this nor the
#: picks depend on the number of processes.
GPU_BLOCK_ROWS = 131072
LEAST_BLOCKS = 64
#: Prepared float32 blocks are cached while they fit in this much memory; a larger pool is prepared anew in each pass.
CACHE_BYTES = 512 * 2**20

#: What a pass computes at a time on a device; a few times as much memory is used beside it.
PASS_BYTES = 512 * 2**20

Result = TypeVar("Result")


class Pool:
    """Prepared feature rows, read block by block; the source is never copied as a whole.

    Under `torchrun` every process opens the same source and reads only its own blocks of it.

    Args:
        source:
            A tensor, NumPy array or memory map of shape (N, d), any float type.
        standardize (`Standardization`, *optional*):
            What is done to the features first; nothing when left out.
        quality (`Tensor`, *optional*):
            (N,) float64, quality of each row in (0, 1] (`itl_hf.gp.quality`), the same on every process; 1 when left
            out.
        device (`torch.device`, *optional*):
            Where rows are computed with: each block is copied there when it is read. The source's device when left out.

    Raises:
        `ValueError`: If all rows are equal, or none is left without the unusable ones.

    Attributes:
        starts (`list[int]`):
            First row numbers of this process's blocks.
        device (`torch.device`):
            Where rows are computed with.
        dimension (`int`):
            Length of a prepared row.
        is_cached (`bool`):
            Whether prepared float32 blocks stay in memory from pass to pass.
        longest_row (`LongestRow`):
            The row farthest from the mean, if rows are standardized.
        row_by_row (`bool`):
            Whether a prepared row is the same to the last bit whatever rows it is prepared with.
        unusable (`UnusableRows`):
            Rows whose features are all zero or not finite. The preparation is fitted without them, and they are
            prepared to zeros.
        is_kept (`bool`):
            Whether the cached blocks stay in memory for the next selection, so that `release` does not free them.
    """

    def __init__(
        self,
        source: Any,
        standardize: Standardization | None = None,
        quality: Tensor | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.source = source
        self.num_rows, self.raw_dimension = int(source.shape[0]), int(source.shape[1])
        if device is None:
            device = source.device if isinstance(source, Tensor) else torch.device("cpu")
        self.device = device
        self.quality = None if quality is None else quality.to(self.device, torch.float64)
        self.block_rows = BLOCK_ROWS if self.device.type == "cpu" else device_block_rows(self.num_rows)
        starts = range(0, self.num_rows, self.block_rows)
        self.starts = list(starts[share(len(starts), distributed.rank(), distributed.world_size())])
        self._cache = RowCache()
        self._results: dict[Hashable, Any] = {}
        self.is_kept = False
        self.longest_row = LongestRow()
        self.preparation, self.unusable = self._fit(standardize)
        self._is_unusable = self.unusable.mask(self.num_rows)
        self.row_by_row = self.preparation.weights.ndim < 2
        self.feature_map: FeatureMap | None = None
        self._set_dimension(self.preparation.dimension)

    def _set_dimension(self, dimension: int) -> None:
        self.dimension = dimension
        max_bytes = CACHE_BYTES
        if self.device.type == "cuda":
            # A model may be there too.
            max_bytes = torch.cuda.mem_get_info(self.device)[0] // 3
        stop = min(self.starts[-1] + self.block_rows, self.num_rows) if self.starts else 0
        own_rows = range(self.starts[0] if self.starts else 0, stop)
        self.is_cached = len(own_rows) * dimension * 4 <= max_bytes
        self._cache = RowCache(own_rows)

    def _fit(self, standardize: Standardization | None) -> tuple[Preparation, UnusableRows]:
        error: ValueError | None = None
        first_pass = FirstPass(standardize)
        try:
            block_at = lambda start: self._read(slice(start, start + self.block_rows))
            first_pass.read(self.starts, block_at, self.device.type != "cpu")
        except ValueError as unreadable:
            error = unreadable
        # Before anything is gathered: the others would wait there for a process that failed.
        distributed.raise_on_all(error)
        unusable = first_pass.unusable.of_all_processes()
        if len(unusable) == self.num_rows:
            raise ValueError(f"no row of `pool` can be picked: {unusable.summary()}. Embed the pool again.")
        if standardize is None:
            return Preparation.none(self.raw_dimension), unusable
        self.longest_row = first_pass.longest_row.over_processes(self.device)
        try:
            return preparation.fit(first_pass.moments, standardize, self.raw_dimension), unusable
        except ValueError as equal_rows:
            if not len(unusable):
                raise
            raise ValueError(f"{equal_rows} ({unusable.summary()})") from None

    def prepare(self, rows: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Prepares raw rows, (B, d) -> (B, dimension)."""
        rows = self.preparation(rows, dtype)
        return rows if self.feature_map is None else self.feature_map(rows)

    def set_feature_map(self, feature_map: FeatureMap) -> None:
        """Maps all prepared rows to features of a kernel (`itl_hf.gp.nystroem`) from now on."""
        self.feature_map, self.row_by_row = feature_map, False
        self._set_dimension(feature_map.dimension)
        self._results, self.is_kept = {}, False

    @property
    def is_unit(self) -> bool:
        """Whether all prepared rows have norm 1 or 0."""
        return self.preparation.unit and self.feature_map is None

    def subset(self, indices: Sequence[int] | None = None) -> Pool:
        """Returns a pool of these rows, or of all, prepared with the statistics of this pool and not mapped further.

        Their source rows are copied; a process reads all of them itself.

        Args:
            indices (`Sequence[int]`, *optional*):
                Row numbers; all rows, which are not copied, when left out.
        """
        part = copy.copy(self)
        part.feature_map, part.row_by_row = None, self.preparation.weights.ndim < 2
        part._results, part.is_kept = {}, False
        if indices is not None:
            part.source = self._read(list(indices))
            part.num_rows, part.unusable = len(part.source), UnusableRows()
            part._is_unusable = None if self._is_unusable is None else self._is_unusable[list(indices)]
            part.quality = None if self.quality is None else self.quality[list(indices)]
            starts = range(0, part.num_rows, part.block_rows)
            part.starts = list(starts[share(len(starts), distributed.rank(), distributed.world_size())])
        part._set_dimension(self.preparation.dimension)
        return part

    def release(self) -> None:
        """Frees the memory of cached blocks, unless the pool is kept; they are prepared again when they are needed."""
        if not self.is_kept:
            self._cache.clear()

    def once(self, key: Hashable, compute: Callable[[], Result]) -> Result:
        """Returns what depends on the prepared rows and on `key` alone; it is computed at the first call.

        Collective where `compute` is: all processes have called it equally often.
        """
        if key not in self._results:
            self._results[key] = compute()
        result: Result = self._results[key]
        return result

    def block(self, start: int, dtype: torch.dtype) -> Tensor:
        """Returns the prepared rows of the block that begins at row `start`, (B, dimension)."""
        cached_rows = self._cache.get(start) if dtype == torch.float32 else None
        if cached_rows is not None:
            return cached_rows
        rows = self.own_rows(slice(start, start + self.block_rows), dtype)
        return self._cache.put(start, rows) if dtype == torch.float32 and self.is_cached else rows

    def blocks(self, dtype: torch.dtype = torch.float64) -> Iterator[tuple[int, Tensor]]:
        """Yields (first row number, prepared rows) of this process's blocks, in row order."""
        for start in self.starts:
            yield start, self.block(start, dtype)

    def spans(self, row_bytes: int) -> list[slice]:
        """Returns the parts in which a pass reads this process's rows: its blocks on the CPU, where they fit in a
        processor's cache; on a device as many blocks at a time as `PASS_BYTES` holds, at `row_bytes` for each row.
        """
        bytes_of_row = row_bytes if self.is_cached else max(row_bytes, 8 * self.dimension)
        count = 1 if self.device.type == "cpu" else max(1, PASS_BYTES // (bytes_of_row * self.block_rows))
        parts = [self.starts[first : first + count] for first in range(0, len(self.starts), count)]
        return [slice(part[0], min(part[-1] + self.block_rows, self.num_rows)) for part in parts]

    def span(self, span: slice, dtype: torch.dtype) -> Tensor:
        """Returns the prepared rows of some blocks beside each other, (B, dimension)."""
        starts = range(span.start, span.stop, self.block_rows)
        return self._cache.join(span, [self.block(start, dtype) for start in starts])

    def own_rows(self, index: slice | list[int] | Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Returns the prepared rows of these numbers, (B, dimension), from this process's view of the source."""
        return self._blank(self.prepare(self._read(index), dtype), index)

    def has_row(self, index: int) -> bool:
        """Whether this process reads the block of that row."""
        return bool(self.starts) and self.starts[0] <= index < self.starts[-1] + self.block_rows

    def own_positions(self, indices: Sequence[int]) -> list[int]:
        """Returns the positions, among these row numbers, of the rows that this process reads."""
        return [position for position, index in enumerate(indices) if self.has_row(index)]

    def rows(self, indices: Sequence[int]) -> Tensor:
        """Returns the prepared rows of these numbers, whichever process has them, (len(indices), dimension) float64.

        Collective: all processes must ask for the same rows.
        """
        if distributed.world_size() == 1 and len(indices):
            return self.own_rows(list(indices))
        positions = self.own_positions(indices)
        raw = torch.zeros(len(indices), self.raw_dimension, dtype=torch.float64, device=self.device)
        if positions:
            raw[positions] = self._read([indices[position] for position in positions]).double()
        # Every process prepares all of them, together with the same rows as a single process would.
        return self._blank(self.prepare(distributed.sum_over_processes(raw)), list(indices))

    def spaced_rows(self, count: int) -> list[int]:
        """Returns at most `count` row numbers, evenly spaced over the usable rows."""
        if self._is_unusable is None:
            return spaced_rows(self.num_rows, count)
        usable = (~self._is_unusable).nonzero()[:, 0]
        return [int(usable[place]) for place in spaced_rows(len(usable), count)]

    def is_usable(self, index: slice) -> Tensor | None:
        """Returns which of these rows are usable, (B,) bool on the device; `None` for all."""
        part = None if self._is_unusable is None else ~self._is_unusable[index]
        return None if part is None or bool(part.all()) else part.to(self.device)

    def quality_of(self, indices: slice | Tensor | Sequence[int]) -> Quality:
        """Returns the quality of the rows of these numbers, (B,) float64, or 1.0 for all of them."""
        if self.quality is None:
            return 1.0
        return self.quality[indices if isinstance(indices, slice | Tensor) else list(indices)]

    def _read(self, index: slice | list[int] | Tensor) -> Tensor:
        if isinstance(self.source, Tensor):
            rows = self.source[index.to(self.source.device) if isinstance(index, Tensor) else index]
        else:
            rows = self.source[index.cpu().numpy() if isinstance(index, Tensor) else index]
        if not isinstance(rows, Tensor):
            rows = torch.tensor(rows, device="cpu")  # a copy: memory maps are read-only
        if rows.device == self.device:
            return rows
        if rows.device.type == "cpu" and self.device.type == "cuda" and torch.cuda.is_initialized():
            rows = rows.pin_memory()  # the copy then runs beside the computation
        return rows.to(self.device, non_blocking=True)

    def _blank(self, rows: Tensor, index: slice | list[int] | Tensor) -> Tensor:
        """Replaces the unusable ones of these prepared rows by zeros, in a copy."""
        if self._is_unusable is None:
            return rows
        mask = self._is_unusable[index.cpu() if isinstance(index, Tensor) else index]
        return rows.masked_fill(mask[:, None].to(rows.device), 0.0) if bool(mask.any()) else rows


def device_block_rows(num_rows: int) -> int:
    """Returns the number of rows of a block on an accelerator, a multiple of `BLOCK_ROWS`."""
    return min(GPU_BLOCK_ROWS, max(1, num_rows // (LEAST_BLOCKS * BLOCK_ROWS)) * BLOCK_ROWS)


def share(count: int, rank: int, size: int) -> slice:
    """Returns the slice of `count` items for process `rank` of `size`: contiguous, and as equal as can be."""
    return slice(count * rank // size, count * (rank + 1) // size)


def spaced_rows(num_rows: int, count: int) -> list[int]:
    """Returns at most `count` row numbers, evenly spaced from the first row to the last."""
    indices: list[int] = torch.linspace(0, num_rows - 1, min(count, num_rows), dtype=torch.float64).long().tolist()
    return indices
