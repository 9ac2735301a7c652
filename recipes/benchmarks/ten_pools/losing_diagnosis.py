"""Which targets get few picks, and which rows are picked in their place."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from itl_hf.selection.row_selection import RowSelection, correlation

#: Rows that count as a target's neighbourhood.
NEIGHBOURS = 12
#: A target starves with fewer than this part of its fair share of picks; a task is over-served with more than this.
STARVING, OVER_SERVED = 0.5, 1.5


def neighbourhoods(selection: RowSelection, size: int = NEIGHBOURS) -> np.ndarray:
    """Returns each target's largest correlations with rows of the pool, descending, (m, size)."""
    blocks = [correlation(rows, selection.gp).T for _, rows in selection.pool.blocks()]  # (m, B) each
    correlations = torch.cat(blocks, dim=1)
    nearest: np.ndarray = correlations.topk(min(size, correlations.shape[1]), dim=1).values.cpu().numpy()
    return nearest


def picks_by_target(similarity: np.ndarray) -> np.ndarray:
    """Returns for each target how many picks have it as their nearest target, (n, m) -> (m,). A tie counts for the
    first.
    """
    return np.bincount(similarity.argmax(1), minlength=similarity.shape[1])


def remaining_variance(target_variance: np.ndarray) -> np.ndarray:
    """Returns the share of each target's variance that is left after all picks, (n + 1, m) -> (m,)."""
    share: np.ndarray = target_variance[-1] / np.maximum(target_variance[0], np.finfo(float).tiny)
    return share


def is_starving(picks: np.ndarray, fair_share: np.ndarray) -> np.ndarray:
    """Returns which targets have fewer than half of their fair share of picks, (m,), (m,) -> (m,) bool."""
    starving: np.ndarray = picks < STARVING * fair_share
    return starving


@dataclass(frozen=True)
class RowProfile:
    """Means over some of the picks.

    Args:
        count (`int`):
            Number of these picks.
        near (`float`, *optional*):
            Number of targets that have the pick among their nearest rows; `None` without picks.
        nearest (`float`, *optional*):
            Correlation with the nearest target.
        average (`float`, *optional*):
            Mean correlation with all targets.
    """

    count: int
    near: float | None
    nearest: float | None
    average: float | None

    @classmethod
    def of(cls, similarity: np.ndarray, least_correlation: np.ndarray) -> RowProfile:
        """Summarises picks.

        Args:
            similarity (`np.ndarray`):
                (n, m) correlation of the picks with the targets.
            least_correlation (`np.ndarray`):
                (m,) correlation of each target with the last row of its neighbourhood.
        """
        if not len(similarity):
            return cls(0, None, None, None)
        # A row's own correlation may differ in the last digits, as it was computed among other rows.
        near = similarity >= least_correlation - 1e-9
        return cls(
            len(similarity), float(near.sum(1).mean()), float(similarity.max(1).mean()), float(similarity.mean())
        )

    def columns(self, prefix: str) -> dict[str, float | int | None]:
        """Returns the values with the prefix before their names."""
        return {f"{prefix}_{name}": value for name, value in vars(self).items()}


def task_counts(
    pick_tasks: Mapping[str, np.ndarray], fair: Mapping[str, float]
) -> dict[str, dict[str, float | int | None]]:
    """Returns the picks of each task by method, for tasks of targets and tasks with picks.

    Args:
        pick_tasks (`Mapping[str, np.ndarray]`):
            (n,) task of each pick by method.
        fair (`Mapping[str, float]`):
            Fair number of picks of each task of the targets.
    """
    counts = {method: Counter(tasks.tolist()) for method, tasks in pick_tasks.items()}
    names = list(fair) + sorted({task for each in counts.values() for task in each} - set(fair))
    return {task: {"fair": fair.get(task)} | {method: counts[method][task] for method in counts} for task in names}
