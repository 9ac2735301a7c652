"""Estimates a selection from its sizes alone, before there are any rows: time, memory, disk and traffic.

Time is measured here, on random rows: `time_picking` at two heights gives the time that does not depend on the pool's
rows and the time of each row. Several processes share the second. Memory, disk and traffic are counted:

- Memory of a process beside the program's own: its blocks in the cache (at most `CACHE_BYTES`), one block in float64
  with a copy, its part of the numbers kept for each row (they grow with the picks), and the rows of the map and of the
  limits.
- Disk: the features, as the store keeps them.
- Traffic, at least: bytes that each process sends for picks, map and limits, and for the nearest rows of each target.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from itl_hf.embedding.estimate import Estimate, estimate
from itl_hf.gp.attainable import MOST_LANDMARKS, NEAREST, RANK_ROWS
from itl_hf.gp.pool import BLOCK_ROWS, CACHE_BYTES
from itl_hf.search.verification import PROJECTION_BYTES
from itl_hf.selection.defaults import resolve_kernel_spec
from itl_hf.selection.estimate import time_picking
from itl_hf.selection.result import layout
from itl_hf.selection.result.principal_axes import DIRECTIONS, ITERATIONS
from itl_hf.selection.select_rows import KernelLike
from itl_hf.text import as_dataset

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder

#: Rows of the two pools that are timed: the map and the limits take no more time beyond that.
HEIGHTS = (24_576, 57_344)
#: Rows of random words that a model is timed on, and their letters.
WORD_ROWS = 512
LETTERS = "etaoinshrdlu"
#: Bytes that the search keeps for each row of a process's part: statistics and scores in float64, availability.
ROW_BYTES = 48


@dataclass(frozen=True)
class SelectionSizes:
    """Sizes of a selection.

    Args:
        rows (`int`):
            N, rows of the pool.
        dimension (`int`):
            d, numbers in a feature row.
        num_examples (`int`):
            n, rows to pick.
        targets (`int`):
            m.
        num_processes (`int`, *optional*, defaults to 1):
            Processes that share the pool.
        kernel (`str` or `Kernel`, *optional*, defaults to `"auto"`):
            Kernel on the features.

    Raises:
        `ValueError`: If a number is less than 1, or there are more picks than rows.
    """

    rows: int
    dimension: int
    num_examples: int
    targets: int
    num_processes: int = 1
    kernel: KernelLike = "auto"

    def __post_init__(self) -> None:
        for name in ("rows", "dimension", "num_examples", "targets", "num_processes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.num_examples > self.rows:
            raise ValueError(f"num_examples={self.num_examples} is more than rows={self.rows}")
        resolve_kernel_spec(self.kernel, True)  # raises for an unknown name

    @property
    def own_rows(self) -> int:
        """Most rows that one process reads: whole blocks."""
        num_blocks = -(-self.rows // BLOCK_ROWS)
        return min(self.rows, -(-num_blocks // self.num_processes) * BLOCK_ROWS)


@dataclass(frozen=True)
class SelectionCost:
    """What a selection takes, by estimate.

    Args:
        seconds (`float`):
            Time, without embedding.
        memory_bytes (`int`):
            Memory of one process, beside the program and the model.
        disk_bytes (`int`):
            Features in float32.
        traffic_bytes (`int`):
            Least bytes that one process sends; 0 on one process. Messages of the search itself are not counted.
        bytes_per_pick (`int`):
            Of these, bytes for each pick: they do not depend on the number of rows.
        timed_rows (`int`):
            Random rows that were timed, of both pools together.
    """

    seconds: float
    memory_bytes: int
    disk_bytes: int
    traffic_bytes: int
    bytes_per_pick: int
    timed_rows: int


def estimate_cost(sizes: SelectionSizes) -> SelectionCost:
    """Estimates what `Selector.select` takes beside embedding, for a pool with these sizes.

    Args:
        sizes (`SelectionSizes`):
            Rows, dimension, picks, targets, processes and kernel.

    Example:
        >>> cost = estimate_cost(SelectionSizes(rows=2_000, dimension=8, num_examples=5, targets=2))
        >>> cost.disk_bytes, cost.traffic_bytes
        (64000, 0)
    """
    seconds, timed_rows = _seconds(sizes)
    return SelectionCost(
        seconds=seconds,
        memory_bytes=_memory(sizes),
        disk_bytes=sizes.rows * sizes.dimension * 4,
        traffic_bytes=_traffic(sizes),
        bytes_per_pick=sizes.dimension * 8 if sizes.num_processes > 1 else 0,
        timed_rows=timed_rows,
    )


def _seconds(sizes: SelectionSizes) -> tuple[float, int]:
    """Extrapolates the time from pools of two heights; a small pool is timed itself."""
    heights = [max(height, sizes.num_examples) for height in HEIGHTS]

    def time_height(height: int) -> float:
        return time_picking(sizes.kernel, height, sizes.targets, sizes.dimension, sizes.num_examples)

    # A first call takes longer, so its time does not count.
    time_height(min(2_048, sizes.rows) if sizes.num_examples <= 2_048 else sizes.num_examples)
    if sizes.rows <= heights[1] and sizes.num_processes == 1:
        return time_height(sizes.rows), sizes.rows
    low, high = time_height(heights[0]), time_height(heights[1])
    per_row = max(high - low, 0.0) / (heights[1] - heights[0])
    return max(low + per_row * (sizes.own_rows - heights[0]), 0.0), sum(heights)


def _traffic(sizes: SelectionSizes) -> int:
    """Bytes that a process sends for the map's axes, the limits, the targets' nearest rows and the picks."""
    if sizes.num_processes == 1:
        return 0
    is_linear = resolve_kernel_spec(sizes.kernel, True).kernel.linear
    # The linear kernel's limits need a d x d sum, others the rows that represent the pool.
    limits = sizes.dimension if is_linear else min(sizes.rows, MOST_LANDMARKS)
    return (limits + ITERATIONS * DIRECTIONS + sizes.num_examples) * sizes.dimension * 8 + NEAREST * sizes.targets * 12


def _memory(sizes: SelectionSizes) -> int:
    dimension, own_rows = sizes.dimension, sizes.own_rows
    cache = own_rows * dimension * 4
    cache = cache if cache <= CACHE_BYTES else 0  # a larger part is read anew in each pass
    block = 3 * min(own_rows, BLOCK_ROWS) * dimension * 8
    sample = 2 * min(sizes.rows, layout.SAMPLE_ROWS) * dimension * 8
    of_rows = own_rows * (ROW_BYTES + _projection_bytes(sizes))
    of_targets = sizes.targets * dimension * 8
    return cache + of_rows + max(block, sample) + of_targets + dimension**2 * 16 + RANK_ROWS**2 * 8


def _projection_bytes(sizes: SelectionSizes) -> int:
    """Bytes that the search keeps for each row for all targets and picks."""
    if not resolve_kernel_spec(sizes.kernel, True).kernel.linear:
        return 4 * sizes.targets + 8 * sizes.num_examples  # in the posterior with and without the targets' values
    return min(8 * sizes.num_examples, PROJECTION_BYTES // max(sizes.own_rows, 1))


def estimate_embedding(embedder: Embedder, rows: int, words_per_row: int) -> Estimate:
    """Estimates embedding so many rows of random words, by `itl_hf.embedding.estimate` of a few hundred of them.

    Args:
        embedder (`Embedder`):
            It embeds some of the rows.
        rows (`int`):
            Rows of the pool.
        words_per_row (`int`):
            Words of each row.

    Raises:
        `ValueError`: If a number is less than 1.
    """
    if words_per_row < 1:
        raise ValueError(f"words_per_row must be at least 1, got {words_per_row}")
    generator = random.Random(0)
    count = min(rows, WORD_ROWS)
    words = ["".join(generator.choices(LETTERS, k=5)) for _ in range(count * words_per_row)]
    texts = [" ".join(words[row * words_per_row : (row + 1) * words_per_row]) for row in range(count)]
    of_sample = estimate(as_dataset([f"{text} {row}" for row, text in enumerate(texts)]), embedder)
    factor = rows / len(texts)
    return replace(
        of_sample,
        rows=rows,
        distinct_rows=rows,
        missing_rows=rows,
        tokens=None if of_sample.tokens is None else round(of_sample.tokens * factor),
        seconds=of_sample.seconds * factor,
        disk_bytes=round(of_sample.disk_bytes * factor),
        features_bytes=round(of_sample.features_bytes * factor),
    )
