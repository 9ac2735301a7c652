"""Predictors of every trained cell and task, side by side with the measured losses."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm.auto import tqdm

from recipes.benchmarks.fine_tuning.cells import Cell
from recipes.benchmarks.fine_tuning.rows import HELD_OUT, BenchmarkRows
from recipes.benchmarks.loss_predictors.predictors import predictor_names, row_predictors, task_means
from recipes.benchmarks.loss_predictors.spaces import Space

#: Methods whose losses are level in the benchmark: to order these is what a predictor is wanted for.
GOOD_METHODS = frozenset({"itl", "vtl", "round_robin", "bm25"})


@dataclass(frozen=True)
class Entry:
    """A cell with what is needed to predict its loss.

    Args:
        cell (`Cell`):
            The cell.
        picks (`np.ndarray`):
            (n,) row numbers.
        shares (`Mapping[str, int]`):
            Number of targets of each task, in the order of the set. They weight the tasks' losses.
        losses (`Mapping[str, float]`):
            Measured held-out loss of each task.
    """

    cell: Cell
    picks: np.ndarray
    shares: Mapping[str, int]
    losses: Mapping[str, float]

    @property
    def group(self) -> tuple[str, str, int]:
        """Pool, target set and seed, which cells that are compared have in common."""
        return self.cell.variant, self.cell.targets, self.cell.seed

    @property
    def weights(self) -> np.ndarray:
        """(tasks,) shares of the tasks, with sum 1."""
        counts = np.array(list(self.shares.values()), dtype=np.float64)
        weights: np.ndarray = counts / counts.sum()
        return weights

    @property
    def task_losses(self) -> np.ndarray:
        """(tasks,) measured losses."""
        return np.array([self.losses[task] for task in self.shares])


def held_out_numbers(rows: BenchmarkRows, task: str, count: int) -> np.ndarray:
    """Returns the numbers of a task's held-out rows that its loss was measured on, (count,)."""
    place = rows.target_tasks.index(task)
    numbers: np.ndarray = len(rows.everything) + place * HELD_OUT + np.arange(min(count, HELD_OUT))
    return numbers


def space_predictors(
    space: Space, entries: Sequence[Entry], held_out: Mapping[str, np.ndarray], directory: Path | None = None
) -> np.ndarray:
    """Returns the predictors of one space for every cell and task.

    Args:
        space (`Space`):
            The space. Cells with a pick that has no features in it get NaN.
        entries (`Sequence[Entry]`):
            The cells, all with the same number of tasks.
        held_out (`Mapping[str, np.ndarray]`):
            Numbers of each task's held-out rows.
        directory (`Path`, *optional*):
            Folder in which the values are kept. Not kept if left out.

    Returns:
        `np.ndarray`: (cells, tasks, predictors), in the order of `predictor_names`.
    """
    path = None if directory is None else directory / f"{space.name.replace(' ', '_')}-{_key(space, entries)}.npy"
    if path is not None and path.exists():
        stored: np.ndarray = np.load(path)
        return stored
    values = np.full((len(entries), len(entries[0].shares), len(predictor_names())), np.nan)
    available = set(space.numbers.tolist())
    for place, entry in enumerate(tqdm(entries, desc=space.name, unit="cell")):
        questions = np.concatenate([held_out[task] for task in entry.shares])
        numbers = np.concatenate([entry.picks, questions])
        if available.issuperset(numbers.tolist()):
            tasks = [task for task in entry.shares for _ in held_out[task]]
            by_row = row_predictors(space.cosines(numbers), len(entry.picks))
            values[place] = np.stack(list(task_means(by_row, tasks).values()))
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}.npy")
        np.save(draft, values)
        os.replace(draft, path)
    return values


def _key(space: Space, entries: Sequence[Entry]) -> str:
    """Returns a hash of what the predictors depend on besides the features' values."""
    digest = hashlib.sha256(f"{predictor_names()}{space.numbers.tolist()}".encode())
    for entry in entries:
        digest.update(f"{entry.cell}{entry.picks.tolist()}".encode())
    return digest.hexdigest()[:12]
