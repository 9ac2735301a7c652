"""Scores picks by the tasks of their rows, without training: the yardsticks of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class RowLabels:
    """What is known about the rows of a pool and never shown to a method.

    Args:
        tasks (`np.ndarray`):
            (N,) task of each row.
        originals (`np.ndarray`):
            (N,) row that each row is a copy of, or its own number.
    """

    tasks: np.ndarray
    originals: np.ndarray

    def num_originals(self, rows: np.ndarray) -> int:
        """Returns the number of different originals among these rows."""
        return len(set(self.originals[rows].tolist()))

    def of_task(self, rows: np.ndarray, task: str) -> np.ndarray:
        """Returns those of the rows that are of this task."""
        task_rows: np.ndarray = rows[self.tasks[rows] == task]
        return task_rows


def fair_shares(
    labels: RowLabels, pool_rows: np.ndarray, shares: Mapping[str, int], num_picks: int
) -> dict[str, float]:
    """Returns the number of picks of each task in proportion to its targets, at most the task's different originals."""
    total = sum(shares.values())
    return {
        task: min(num_picks * share / total, labels.num_originals(labels.of_task(pool_rows, task)))
        for task, share in shares.items()
    }


def yardsticks(labels: RowLabels, picks: np.ndarray, fair: Mapping[str, float]) -> dict[str, float | int | None]:
    """Returns scores of the picks.

    `relevant`: share of picks of the targets' tasks. `covered`: number of target tasks with at least half of their fair
    share. `originals`: number of different originals. `score`: share of a fair set without repetition that the picks
    contain, the sum over tasks of min(originals, fair) / sum of fair; `None` if the pool has no row of these tasks.

    Args:
        labels (`RowLabels`):
            Tasks and originals of all rows.
        picks (`np.ndarray`):
            (n,) row numbers.
        fair (`Mapping[str, float]`):
            Result of `fair_shares`.
    """
    of_tasks = {task: labels.of_task(picks, task) for task in fair}
    originals = {task: labels.num_originals(rows) for task, rows in of_tasks.items()}
    useful_originals = sum(min(originals[task], fair[task]) for task in fair)
    return {
        "relevant": sum(len(rows) for rows in of_tasks.values()) / max(1, len(picks)),
        "covered": sum(originals[task] >= fair[task] / 2 > 0 for task in fair),
        "originals": labels.num_originals(picks),
        "score": useful_originals / sum(fair.values()) if sum(fair.values()) else None,
    }
