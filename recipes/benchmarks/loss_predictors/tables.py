"""Turns predictors and losses into the table of correlations, and writes it as CSV and Markdown."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from recipes.benchmarks.fine_tuning.cells import Record
from recipes.benchmarks.loss_predictors.correlations import Agreement, agreement
from recipes.benchmarks.loss_predictors.panel import GOOD_METHODS, Entry

#: Columns of the table: which cells, and whether losses of cells or of single tasks are predicted.
COMPARISONS: Mapping[str, tuple[bool, bool]] = {
    "cells, all methods": (False, False),
    "cells, good methods": (True, False),
    "tasks, all methods": (False, True),
    "tasks, good methods": (True, True),
}


@dataclass(frozen=True)
class Predictor:
    """A number that may predict the loss, for every cell and task.

    Args:
        features (`str`):
            Feature space, or the kind of yardstick.
        quantity (`str`):
            What is computed in it.
        values (`np.ndarray`):
            (cells, tasks), or (cells, 1) where it is the same for all tasks of a cell; NaN where it is unknown. A
            larger value predicts a larger loss.
        needs_answers (`bool`, *optional*, defaults to `False`):
            Whether it uses the held-out answers.
    """

    features: str
    quantity: str
    values: np.ndarray
    needs_answers: bool = False

    def of_cells(self, entries: Sequence[Entry]) -> np.ndarray:
        """Returns means over tasks with the weights of the targets, (cells,)."""
        weights = np.stack([entry.weights for entry in entries])
        means: np.ndarray = (np.broadcast_to(self.values, weights.shape) * weights).sum(1)
        return means


def compare(predictor: Predictor, entries: Sequence[Entry], only_good: bool, by_task: bool) -> Agreement | None:
    """Returns how a predictor agrees with the losses of cells, or of the tasks in each cell.

    Args:
        predictor (`Predictor`):
            The predictor.
        entries (`Sequence[Entry]`):
            The cells, in the order of the predictor's values.
        only_good (`bool`):
            Whether to compare only `GOOD_METHODS`.
        by_task (`bool`):
            Whether the loss of each task is predicted, within the task. Predictors that have one value for all tasks of
            a cell predict the same for each.
    """
    chosen = [place for place, entry in enumerate(entries) if not only_good or entry.cell.method in GOOD_METHODS]
    mine = [entries[place] for place in chosen]
    if not mine:
        return None
    part = Predictor(predictor.features, predictor.quantity, predictor.values[chosen], predictor.needs_answers)
    sets: dict[Hashable, str] = {}
    groups: list[Hashable] = []
    if not by_task:
        groups = [entry.group for entry in mine]
        sets = {entry.group: entry.cell.targets for entry in mine}
        losses = np.array([float(entry.weights @ entry.task_losses) for entry in mine])
        return agreement(losses, part.of_cells(mine), groups, sets)
    for entry in mine:
        for task in entry.shares:
            groups.append((entry.group, task))
            sets[entry.group, task] = entry.cell.targets
    losses = np.stack([entry.task_losses for entry in mine])
    values = np.broadcast_to(part.values, losses.shape)
    return agreement(losses.ravel(), values.ravel(), groups, sets)


def records(predictors: Sequence[Predictor], entries: Sequence[Entry], cells: str) -> list[Record]:
    """Returns one row of the CSV file for each predictor that is known in every target set, and each comparison.

    Args:
        predictors (`Sequence[Predictor]`):
            The predictors.
        entries (`Sequence[Entry]`):
            The cells.
        cells (`str`):
            Which cells these are.
    """
    rows, sets = [], {entry.cell.targets for entry in entries}
    for predictor in predictors:
        is_known = ~np.isnan(predictor.of_cells(entries))
        known = int(is_known.sum())
        if {entries[place].cell.targets for place in np.flatnonzero(is_known).tolist()} != sets:
            continue  # features of a few rows so far: a mean over other sets cannot be compared
        for comparison, (only_good, by_task) in COMPARISONS.items():
            result = compare(predictor, entries, only_good, by_task)
            if result is not None:
                rows.append(
                    {"cells": cells, "features": predictor.features, "quantity": predictor.quantity}
                    | {"needs_answers": predictor.needs_answers, "comparison": comparison, "known_cells": known}
                    | vars(result)
                )
    return rows


def common(predictors: Sequence[Predictor], entries: Sequence[Entry], features: Sequence[str]) -> list[int]:
    """Returns the places of the cells for which all predictors of these feature spaces are known."""
    known = np.ones(len(entries), dtype=bool)
    for predictor in predictors:
        if predictor.features in features:
            known &= ~np.isnan(predictor.of_cells(entries))
    return np.flatnonzero(known).tolist()


def restricted(predictors: Sequence[Predictor], places: Sequence[int]) -> list[Predictor]:
    """Returns the predictors of only these cells."""
    return [
        Predictor(each.features, each.quantity, each.values[list(places)], each.needs_answers) for each in predictors
    ]


def markdown_table(rows: Sequence[Record], quantities: Mapping[str, str]) -> str:
    """Returns one line for each feature space and quantity, and one column for each comparison.

    Args:
        rows (`Sequence[Record]`):
            Rows of `records`.
        quantities (`Mapping[str, str]`):
            Quantities to show, with their names in the table. Those that do not occur here are only in the CSV file.
    """
    by_line: dict[tuple[str, str], dict[str, Record]] = {}
    for row in rows:
        if row["quantity"] in quantities:
            by_line.setdefault((row["features"], row["quantity"]), {})[row["comparison"]] = row
    lines = [f"| features | quantity | {' | '.join(COMPARISONS)} |", "|---" * (2 + len(COMPARISONS)) + "|"]
    for (features, quantity), columns in by_line.items():
        any_row = next(iter(columns.values()))
        star = " *" if any_row["needs_answers"] else ""
        values = [_cell(columns.get(comparison)) for comparison in COMPARISONS]
        lines.append(f"| {features}{star} | {quantities[quantity]} | {' | '.join(values)} |")
    return "\n".join(lines)


def _cell(row: Record | None) -> str:
    if row is None:
        return ""
    error = "" if math.isnan(row["ranks_error"]) else f" ± {_short(row['ranks_error'])}"
    return f"{_short(row['ranks'])}{error}"


def _short(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1)
