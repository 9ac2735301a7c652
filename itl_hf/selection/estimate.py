"""What a selection will take, before hours are spent: that of embedding pool and targets, and of picking.

Picking is timed on made-up features of the same width, as many rows as the pool has up to a few thousand, and taken in
proportion from there: its passes over the pool are, and what is not is small.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.embedding.estimate import Estimate, estimate
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.gp.attainable import attainable_variance
from itl_hf.gp.pool import CACHE_BYTES
from itl_hf.selection.result.layout import principal_layout
from itl_hf.selection.select_rows import select_rows
from itl_hf.text import as_dataset, as_targets

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.selection.selector import EmbedJob, Selector

#: Made-up rows that picking is timed on.
MOST_ROWS = 4_096


@dataclass(frozen=True)
class SelectionEstimate:
    """What `Selector.select` will take.

    Args:
        pool (`Estimate`):
            Embedding the pool.
        targets (`Estimate`):
            Embedding the targets.
        picking_seconds (`float`):
            Picking, and measuring what was picked.
        features_bytes (`int`):
            Memory for features and what picking keeps of them.
    """

    pool: Estimate
    targets: Estimate
    picking_seconds: float
    features_bytes: int

    @property
    def seconds(self) -> float:
        """All of it."""
        return self.pool.seconds + self.targets.seconds + self.picking_seconds


def estimate_selection(selector: Selector, pool: Dataset, targets: Dataset, num_examples: int) -> SelectionEstimate:
    """Estimates `selector.select(pool, targets, num_examples)`; see `itl_hf.embedding.estimate`.

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
        `ValueError`: Rows that cannot be read.
    """
    pool = as_dataset(pool, "pool")
    targets = as_targets(targets, pool)
    pool_job, target_job = selector.embed_jobs(pool, targets)
    of_pool, of_targets = _embedding(selector, pool_job), _embedding(selector, target_job)
    dimension = pool_job.embedder.dimension
    features = of_pool.features_bytes + of_targets.features_bytes
    kept = min(CACHE_BYTES, len(pool) * dimension * 4)
    return SelectionEstimate(
        of_pool,
        of_targets,
        picking_seconds=_picking(selector, len(pool), len(targets), dimension, num_examples),
        features_bytes=kept + (features if selector.store is None else 0),
    )


def _embedding(selector: Selector, job: EmbedJob) -> Estimate:
    store, fingerprint = selector.store, job.fingerprint
    directory = None if store is None else feature_directory(store, fingerprint, job.reading.keys.hash)
    return estimate(job.dataset, job.embedder, directory, fingerprint=fingerprint, keys=job.reading.keys)


def _picking(selector: Selector, rows: int, targets: int, dimension: int, num_examples: int) -> float:
    random = np.random.default_rng(0)
    height = min(rows, max(MOST_ROWS, num_examples))
    features = random.standard_normal((height, dimension), dtype=np.float32)
    near = features[random.integers(0, height, targets)] + 0.5 * random.standard_normal((targets, dimension))
    started = time.perf_counter()
    # ITL whatever was asked for: rivals that read texts or losses have none of made-up rows, and none is much slower.
    picked = select_rows(features, near.astype(np.float32), num_examples, kernel=selector.kernel)
    numbers = picked.indices.tolist()
    attainable_variance(picked.pool, picked.gp, include=numbers)
    principal_layout(picked.pool, picked.gp.targets, numbers)
    return (time.perf_counter() - started) * rows / height
