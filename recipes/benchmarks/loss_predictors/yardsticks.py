"""Yardsticks of the picks that need no kernel: tasks of the picks, lengths, and the losses of other seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from recipes.benchmarks.fine_tuning.cells import Cell, Record
from recipes.benchmarks.loss_predictors.panel import Entry

#: Cell's yardsticks in the committed results: the larger, the better.
COMMITTED = ("score", "relevant", "covered", "originals")
OTHER_SEEDS = "measured loss of the method with the other seeds' targets"


def committed(name: str, entries: Sequence[Entry], measured: Mapping[Cell, Record]) -> np.ndarray:
    """Returns a committed yardstick with a minus sign, (cells, 1): it has one value for all tasks of a cell."""
    return -np.array([[float(measured[entry.cell][name])] for entry in entries])


def by_task(name: str, entries: Sequence[Entry], measured: Mapping[tuple[Cell, str], Record]) -> np.ndarray:
    """Returns a yardstick of the committed task results with a minus sign, (cells, tasks)."""
    return -np.array([[float(measured[entry.cell, task][name]) for task in entry.shares] for entry in entries])


def mean_length(entries: Sequence[Entry], lengths: np.ndarray) -> np.ndarray:
    """Returns the picks' mean length with a minus sign, (cells, 1): longer rows train on more tokens.

    Args:
        entries (`Sequence[Entry]`):
            The cells.
        lengths (`np.ndarray`):
            (rows,) length of each row.
    """
    return -np.array([[float(lengths[entry.picks].mean())] for entry in entries])


def loss_of_other_seeds(entries: Sequence[Entry]) -> np.ndarray:
    """Returns each method's mean loss over the other seeds of the same pool and target set, (cells, tasks).

    It is no predictor, since it needs trainings. It shows how far methods differ reproducibly: what correlation a
    predictor that knew everything about a method, but nothing about the seed, would reach.
    """
    losses: dict[tuple[str, str, str, str], dict[int, np.ndarray]] = defaultdict(dict)
    for entry in entries:
        cell = entry.cell
        losses[cell.features, cell.variant, cell.targets, cell.method][cell.seed] = entry.task_losses
    rows = []
    for entry in entries:
        cell = entry.cell
        same = losses[cell.features, cell.variant, cell.targets, cell.method]
        others = [values for seed, values in same.items() if seed != cell.seed]
        rows.append(np.mean(others, axis=0) if others else np.full(len(entry.shares), np.nan))
    return np.stack(rows)
