"""Estimates the time and memory of a selection before it runs: embedding pool and targets, and picking.

Picking is timed on random features of the same width, with as many rows as the pool has up to a few thousand. The time
for the whole pool is taken to be proportional to its rows, as the passes over the pool are; the rest is small.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.embedding.estimate import Estimate, estimate
from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.pool import CACHE_BYTES, spaced_rows
from itl_hf.selection.result.layout import principal_layout
from itl_hf.selection.select_rows import KernelLike, select_rows

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.selection.embed_job import EmbedJob
    from itl_hf.selection.selector import Selector

#: Number of random rows that picking is timed on.
MOST_ROWS = 4_096
#: Reads the time; a benchmark on a busy machine replaces it by the time of the processor.
clock = time.perf_counter


@dataclass(frozen=True)
class SelectionEstimate:
    """Estimated time and memory of `Selector.select`.

    Args:
        pool (`Estimate`):
            Embedding the pool.
        targets (`Estimate`):
            Embedding the targets.
        picking_seconds (`float`):
            Picking, and measuring what was picked.
        features_bytes (`int`):
            Memory for features and for the copies of them that picking keeps.
        shortlist (`Estimate`, *optional*):
            Embedding the pool by the embedder that makes the shortlist; `pool` is then the rows on the shortlist.
    """

    pool: Estimate
    targets: Estimate
    picking_seconds: float
    features_bytes: int
    shortlist: Estimate | None = None

    @property
    def seconds(self) -> float:
        """Seconds of embedding and picking together."""
        shortlist_seconds = 0.0 if self.shortlist is None else self.shortlist.seconds
        return self.pool.seconds + self.targets.seconds + self.picking_seconds + shortlist_seconds


def estimate_selection(selector: Selector, pool: Dataset, targets: Dataset, num_examples: int) -> SelectionEstimate:
    """Estimates `selector.select(pool, targets, num_examples)`.

    Embedding is estimated by `itl_hf.embedding.estimate`, which embeds a few batches.

    Args:
        selector (`Selector`):
            Its embedder runs on a few hundred rows.
        pool (`Dataset`):
            Rows to pick from.
        targets (`Dataset`):
            The task's prompts.
        num_examples (`int`):
            Rows to pick.

    Raises:
        `ValueError`: If a row cannot be read.
    """
    pool, targets = selector.read(pool, targets)
    pool_job, target_job = selector.embed_jobs(pool, targets)
    shortlist, of_shortlist = selector.shortlist, None
    if shortlist is not None and shortlist.embedder is not None:
        of_shortlist = _embedding(selector, pool_job.by(shortlist.embedder))
        # Which rows will be on the list is not known yet: evenly spaced ones stand for them.
        num_listed = min(shortlist.num_rows(num_examples, len(pool)), len(pool))
        pool_job = pool_job.subset(np.asarray(spaced_rows(len(pool), num_listed)), "shortlist")
    of_pool, of_targets = _embedding(selector, pool_job), _embedding(selector, target_job)
    num_rows, dimension = len(pool_job.dataset), pool_job.embedder.dimension
    features = of_pool.features_bytes + of_targets.features_bytes
    features += 0 if of_shortlist is None else of_shortlist.features_bytes
    cache_bytes = min(CACHE_BYTES, num_rows * dimension * 4)
    return SelectionEstimate(
        of_pool,
        of_targets,
        picking_seconds=_picking(selector, num_rows, len(targets), dimension, num_examples),
        features_bytes=cache_bytes + (0 if pool_job.directory(selector.store) else features),
        shortlist=of_shortlist,
    )


def _embedding(selector: Selector, job: EmbedJob) -> Estimate:
    directory = job.directory(selector.store)
    return estimate(job.rows, job.embedder, directory, fingerprint=job.fingerprint, keys=job.reading.keys)


def _picking(selector: Selector, rows: int, targets: int, dimension: int, num_examples: int) -> float:
    height = min(rows, max(MOST_ROWS, num_examples))
    return time_picking(selector.kernel, height, targets, dimension, num_examples) * rows / height


def time_picking(kernel: KernelLike, rows: int, targets: int, dimension: int, num_examples: int) -> float:
    """Returns the seconds that picking from random rows takes, with the map and the attainable variance.

    Args:
        kernel (`str` or `Kernel`):
            Kernel on the features.
        rows (`int`):
            Rows of the pool.
        targets (`int`):
            Targets, near random rows.
        dimension (`int`):
            Numbers in a row.
        num_examples (`int`):
            Rows to pick.
    """
    random = np.random.default_rng(0)
    features = random.standard_normal((rows, dimension), dtype=np.float32)
    near = features[random.integers(0, rows, targets)] + 0.5 * random.standard_normal((targets, dimension))
    start_time = clock()
    # ITL is timed whatever the acquisition: baselines that read texts or losses have none for random rows, and no
    # acquisition is much slower.
    selection = select_rows(features, near.astype(np.float32), num_examples, kernel=kernel)
    numbers = selection.indices.tolist()
    attainable_variance(selection.pool, selection.gp, include=numbers)
    principal_layout(selection.pool, selection.gp.targets, numbers)
    return clock() - start_time
