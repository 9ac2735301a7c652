"""A stand-in for a selection that is made without a model: the report only reads its attributes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from datasets import Dataset

from itl_hf import SelectionRecord


@dataclass
class StandInLayout:
    pool: np.ndarray
    pool_rows: np.ndarray
    targets: np.ndarray
    picks: np.ndarray
    explained: np.ndarray = field(default_factory=lambda: np.array([0.4, 0.1], dtype=np.float32))
    method: str = "pca"


@dataclass
class StandInSelection:
    dataset: Dataset
    targets: Dataset
    indices: np.ndarray
    gains: np.ndarray
    target_variance: np.ndarray
    irreducible: np.ndarray
    whole_pool: np.ndarray
    reach: np.ndarray
    pool_size: int
    record: SelectionRecord
    layout: StandInLayout
    whole_pool_information: np.ndarray | None = None


def selection(
    picks: int = 5,
    targets: int = 3,
    pool: int = 40,
    pick_texts: list[str] | None = None,
    target_texts: list[str] | None = None,
    tasks: list[str] | None = None,
) -> StandInSelection:
    """Makes a selection with these numbers of picks, targets and pool rows, with the given texts or generated ones."""
    pick_texts = pick_texts or [f"question number {i}" for i in range(picks)]
    target_texts = target_texts or [f"target prompt {i}" for i in range(targets)]
    picks, targets = len(pick_texts), len(target_texts)
    generator = np.random.default_rng(0)
    indices = generator.permutation(pool)[:picks]
    gains = np.sort(generator.uniform(0.01, 1, picks))[::-1].copy()
    columns: dict[str, Any] = {
        "prompt": pick_texts,
        "completion": [f"answer number {i}" for i in range(picks)],
        "pool_index": indices,
        "itl_rank": range(1, picks + 1),
        "itl_gain": gains,
        "itl_nearest_target": [i % targets for i in range(picks)],
        "itl_similarity": generator.uniform(0, 1, picks),
    }
    if tasks is not None:
        columns["task"] = tasks
    points = generator.normal(size=(pool, 2)).astype(np.float32)
    return StandInSelection(
        dataset=Dataset.from_dict(columns),
        targets=Dataset.from_dict({"prompt": target_texts}),
        indices=indices,
        gains=gains,
        target_variance=np.linspace(1, 0.4, picks + 1)[:, None] * np.linspace(0.5, 2, targets),
        irreducible=np.zeros(targets),
        whole_pool=np.full(targets, 0.1),
        reach=np.linspace(0.9, 0.1, targets),
        pool_size=pool,
        record=SelectionRecord(
            acquisition_name="itl",
            acquisition_options={"reads": "features"},
            kernel_options={"kernel": "linear"},
            kernel_rule="given",
            standardization_name="dimensions-unit",
            noise_std=2.125,
            target_noise_std=2.125,
            noise_rule="auto: a rule",
            effective_rank=2.0,
            pool_rows=pool,
            target_rows=targets,
            dimension=8,
        ),
        layout=StandInLayout(points, np.arange(pool), points[:targets] + 0.1, points[indices]),
    )
