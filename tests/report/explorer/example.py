"""Makes selections with their pool and stored features from random numbers, without a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from itl_hf import SelectionConstraints
from itl_hf.embedding.row_keys import row_keys
from itl_hf.embedding.row_reading import read_dataset
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.selection.result.assemble import SelectionInputs, assemble
from itl_hf.selection.result.selection import Selection
from itl_hf.selection.select_rows import select_rows

KINDS = ("sums", "poems", "letters", "recipes", "dates", "maps", "chess", "songs")
FINGERPRINT = {"embedder": "made", "model": "made/by-hand", "span": "prompt"}


@dataclass(frozen=True)
class Example:
    """A selection with the pool, the targets and the features that it was made from."""

    selection: Selection
    pool: Dataset
    targets: Dataset
    pool_features: np.ndarray
    target_features: np.ndarray
    store: Path


def make_example(
    folder: Path,
    rows: int = 120,
    targets: int = 6,
    picks: int = 30,
    dimension: int = 16,
    prompts: dict[int, str] | None = None,
    target_prompts: dict[int, str] | None = None,
    constraints: SelectionConstraints | None = None,
    seed: int = 0,
    **options: Any,
) -> Example:
    """Makes rows of eight kinds in clusters, targets of the first three kinds, and stores the features under `folder`.

    `prompts` and `target_prompts` replace the prompts of single rows; `constraints` are passed to `select_rows` and
    written into the record.
    """
    generator = np.random.default_rng(seed)
    kinds = generator.integers(0, len(KINDS), rows)
    target_kinds = generator.integers(0, 3, targets)
    centres = generator.normal(size=(len(KINDS), dimension))
    features, target_features = (
        (centres[which] + 0.8 * generator.normal(size=(len(which), dimension))).astype(np.float32)
        for which in (kinds, target_kinds)
    )
    pool = Dataset.from_dict(
        {
            "prompt": [(prompts or {}).get(i, f"Question {i} about {KINDS[k]}, please.") for i, k in enumerate(kinds)],
            "completion": [f"Answer number {i}." for i in range(rows)],
            "task": [KINDS[k] for k in kinds],
            "cost": [float(1 + i % 7) for i in range(rows)],
        }
    )
    target_texts = [(target_prompts or {}).get(i, f"Target {i}: {KINDS[k]}?") for i, k in enumerate(target_kinds)]
    target_rows = Dataset.from_dict({"prompt": target_texts})
    hashes = [row_keys(side).hash for side in (pool, target_rows)]
    for side, numbers in zip(hashes, (features, target_features), strict=True):
        directory = feature_directory(folder / "store", FINGERPRINT, side)
        store = FeatureStore(directory, FINGERPRINT, rows=len(numbers), dimension=dimension, shard_rows=4096)
        for shard in range(store.num_shards):
            first, end = store.row_range(shard)
            store.write(shard, numbers[first:end])
    constraints = constraints or SelectionConstraints()
    record_entries = {
        "embedder": FINGERPRINT,
        "targets_embedder": FINGERPRINT,
        "pool_fingerprint": hashes[0],
        "targets_fingerprint": hashes[1],
        "constraints": constraints.to_json(),
    }
    row_selection = select_rows(features, target_features, picks, constraints=constraints.resolve(pool), **options)
    inputs = SelectionInputs(
        pool, target_rows, read_dataset(pool), read_dataset(target_rows), features, target_features, record_entries
    )
    selection = assemble(row_selection, inputs, None)
    return Example(selection, pool, target_rows, features, target_features, folder / "store")
