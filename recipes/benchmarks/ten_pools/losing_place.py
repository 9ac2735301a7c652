"""Runs ITL, round-robin and changes of ITL on the target sets of one pool, and measures what targets and tasks get."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from itl_hf.selection.row_selection import RowSelection
from recipes.benchmarks.fine_tuning.scores import RowLabels, fair_shares, yardsticks
from recipes.benchmarks.ten_pools.cells import Bench
from recipes.benchmarks.ten_pools.losing_changes import ITL, ROUND_ROBIN, Change
from recipes.benchmarks.ten_pools.losing_diagnosis import (
    RowProfile,
    neighbourhoods,
    picks_by_target,
    remaining_variance,
    task_counts,
)
from recipes.benchmarks.ten_pools.losing_results import Row
from recipes.benchmarks.ten_pools.pool import Pool, TargetSet

HALF = "development"
#: Beginnings of the columns about picks of the targets' tasks and about other picks.
GROUPS = ("task", "other")
#: Columns of the tables of targets and tasks by method.
COLUMNS = {ITL.name: "itl", ROUND_ROBIN.name: "round_robin"}


class Place:
    """A pool with shares of its targets.

    Args:
        bench (`Bench`):
            Loads pools, features and target sets.
        pool (`str`):
            Name of the pool.
        shares (`str`):
            `"equal"`, `"mixture"` or `"handful"`.
        num_picks (`int`):
            Number of picks.
    """

    def __init__(self, bench: Bench, pool: str, shares: str, num_picks: int) -> None:
        self.bench, self.shares, self.num_picks = bench, shares, num_picks
        self.pool: Pool = bench.pool(pool)
        self.labels = RowLabels(self.pool.tasks, self.pool.row_originals)

    def sets(self) -> list[TargetSet]:
        """Returns the target sets.

        Raises:
            `ValueError`: If too few tasks of the pool have enough labelled rows for these shares.
        """
        return self.bench.sets(self.pool.name, HALF, self.shares)

    def key(self, number: int, change: Change) -> tuple[str, str, int, str, str]:
        """Returns the arguments of `Results.cell` for a change on a set."""
        return self.pool.name, self.shares, number, change.name, change.description

    def compare(self, number: int) -> dict[str, list[Row]]:
        """Runs ITL and round-robin on a set; returns their cells and what each target and task gets."""
        selections = {change.name: self._select(number, change) for change in (ITL, ROUND_ROBIN)}
        nearest = neighbourhoods(selections[ITL.name])  # (m, 12)
        cells = [
            self._cell(number, change, selections[change.name])
            | self._profiles(number, selections[change.name], nearest[:, -1])
            for change in (ITL, ROUND_ROBIN)
        ]
        return {
            "cells": cells,
            "targets": self._targets(number, selections, nearest),
            "tasks": self._tasks(number, selections),
        }

    def change(self, number: int, change: Change, noise_std: float) -> Row:
        """Runs a change on a set and returns its cell. The kernel of a change may have another scale of correlation, so
        the cell has no profile of the picks.
        """
        cell = self._cell(number, change, self._select(number, change, noise_std))
        empty = RowProfile(0, None, None, None)
        return cell | {name: None for group in GROUPS for name in empty.columns(group)}

    def _select(self, number: int, change: Change, noise_std: float | None = None) -> RowSelection:
        features = self.bench.config.features
        rows, bank = self.bench.features(features.get(self.pool.name) or features["default"], self.pool.name)
        target_rows = self.sets()[number].target_rows
        return change.select(rows[self._available(number)], bank[target_rows], self.num_picks, noise_std)

    def _available(self, number: int) -> np.ndarray:
        return self.pool.available_rows(self.sets()[number].tasks)

    def _rows(self, number: int, selection: RowSelection) -> np.ndarray:
        """Returns the picks as rows of the pool, (n,)."""
        rows: np.ndarray = self._available(number)[selection.indices]
        return rows

    def _fair(self, number: int) -> dict[str, float]:
        return fair_shares(self.labels, self._available(number), self.sets()[number].shares, self.num_picks)

    def _cell(self, number: int, change: Change, selection: RowSelection) -> Row:
        scores = yardsticks(self.labels, self._rows(number, selection), self._fair(number))
        # Rounded here, so that a run that resumes from the CSV file uses the same noise.
        noise_std = float(f"{selection.record.noise_std:.4g}")
        names = ("pool", "shares", "set", "change", "options")
        return dict(zip(names, self.key(number, change), strict=True)) | {"noise_std": noise_std} | scores

    def _profiles(self, number: int, selection: RowSelection, least_correlation: np.ndarray) -> Row:
        is_of_tasks = np.isin(self.pool.tasks[self._rows(number, selection)], self.sets()[number].tasks)  # (n,)
        profiles = (
            RowProfile.of(selection.similarity[part], least_correlation) for part in (is_of_tasks, ~is_of_tasks)
        )
        return {
            name: value
            for group, profile in zip(GROUPS, profiles, strict=True)
            for name, value in profile.columns(group).items()
        }

    def _targets(self, number: int, selections: Mapping[str, RowSelection], nearest: np.ndarray) -> list[Row]:
        shares = self.sets()[number].shares
        columns: dict[str, list[float]] = {"tightness": nearest.mean(1).tolist()}
        for name, column in COLUMNS.items():
            columns[f"{column}_picks"] = picks_by_target(selections[name].similarity).tolist()
            columns[f"{column}_left"] = remaining_variance(selections[name].target_variance).tolist()
        tasks = [task for task, count in shares.items() for _ in range(count)]
        place = {"pool": self.pool.name, "shares": self.shares, "set": number}
        return [
            {**place, "target": target, "task": task, "fair": self.num_picks / len(tasks)}
            | {name: values[target] for name, values in columns.items()}
            for target, task in enumerate(tasks)
        ]

    def _tasks(self, number: int, selections: Mapping[str, RowSelection]) -> list[Row]:
        pick_tasks = {column: self.pool.tasks[self._rows(number, selections[name])] for name, column in COLUMNS.items()}
        counts = task_counts(pick_tasks, self._fair(number))
        place = {"pool": self.pool.name, "shares": self.shares, "set": number}
        return [{**place, "task": task, **values} for task, values in counts.items()]
