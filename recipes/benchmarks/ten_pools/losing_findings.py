"""Where ITL is behind round-robin, and what a change of one part does: numbers by the same rules for every cell."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recipes.benchmarks.ten_pools.losing_changes import CHANGES, ITL, ROUND_ROBIN
from recipes.benchmarks.ten_pools.losing_diagnosis import OVER_SERVED, is_starving
from recipes.benchmarks.ten_pools.losing_results import Row
from recipes.benchmarks.ten_pools.pool import SHARES
from recipes.benchmarks.ten_pools.registry import POOLS
from recipes.benchmarks.ten_pools.tables import Comparison

YARDSTICKS = ("relevant", "score")
MENDS, HELPS, HURTS, UNCLEAR = "mends", "helps", "hurts", "unclear"


def compare(cells: Sequence[Row], others: Sequence[Row]) -> dict[str, Comparison]:
    """Compares cells with others on the sets that both have, by yardstick: cells minus others."""
    return {
        name: Comparison.of(_by_set(cells, name), _by_set(others, name), lower_is_better=False) for name in YARDSTICKS
    }


def is_losing(cells: Sequence[Row], others: Sequence[Row]) -> bool:
    """Returns whether cells are behind others by more than one standard error in `relevant` or `score`."""
    return any(is_behind(comparison) for comparison in compare(cells, others).values())


def is_behind(comparison: Comparison) -> bool:
    """Returns whether a difference is negative by more than its standard error. One set has no standard error."""
    if comparison.difference is None or comparison.error is None:
        return False
    return comparison.difference < -comparison.error


def is_ahead(comparison: Comparison) -> bool:
    """Returns whether a difference is positive by more than its standard error."""
    if comparison.difference is None or comparison.error is None:
        return False
    return comparison.difference > comparison.error


@dataclass(frozen=True)
class Diagnosis:
    """The measurements of one pool with shares of its targets.

    Args:
        pool (`str`):
            Name of the pool.
        shares (`str`):
            Shares of its targets.
        cells (`dict[str, list[Row]]`):
            Cells by change.
        targets (`list[Row]`):
            What each target gets.
        tasks (`list[Row]`):
            What each task gets.
    """

    pool: str
    shares: str
    cells: Mapping[str, list[Row]]
    targets: Sequence[Row]
    tasks: Sequence[Row]

    @property
    def num_sets(self) -> int:
        """Number of target sets."""
        return len(self.cells[ITL.name])

    @cached_property
    def behind(self) -> dict[str, Comparison]:
        """ITL minus round-robin in the yardsticks in which ITL is behind by more than one standard error."""
        return {name: comparison for name, comparison in self.to_rival(ITL.name).items() if is_behind(comparison)}

    def to_rival(self, change: str) -> dict[str, Comparison]:
        """Returns a change minus round-robin by yardstick."""
        return compare(self.cells[change], self.cells[ROUND_ROBIN.name])

    def to_itl(self, change: str) -> dict[str, Comparison]:
        """Returns a change minus ITL by yardstick."""
        return compare(self.cells[change], self.cells[ITL.name])

    def verdicts(self) -> dict[str, str]:
        """Returns for each change that was measured on all sets what it does where ITL is behind.

        `"mends"`: better than ITL by more than one standard error in the yardsticks in which ITL is behind, and in no
        yardstick behind round-robin by more than one. `"helps"`: better than ITL alone. `"hurts"`: worse than ITL by
        more than one standard error in one of them and better in none. `"unclear"`: anything else.
        """
        complete = [change.name for change in CHANGES if len(self.cells.get(change.name, ())) >= self.num_sets]
        return {name: self._verdict(name) for name in complete}

    def _verdict(self, change: str) -> str:
        gains = [self.to_itl(change)[name] for name in self.behind]
        if all(is_ahead(gain) for gain in gains):
            return HELPS if any(is_behind(each) for each in self.to_rival(change).values()) else MENDS
        is_worse = any(is_behind(gain) for gain in gains) and not any(is_ahead(gain) for gain in gains)
        return HURTS if is_worse else UNCLEAR

    def starving(self, method: str) -> list[Row]:
        """Returns the targets with fewer than half of their fair share under `"itl"` or `"round_robin"`."""
        picks = np.array([row[f"{method}_picks"] for row in self.targets])
        starving = is_starving(picks, np.array([row["fair"] for row in self.targets]))
        return [row for row, starves in zip(self.targets, starving, strict=True) if starves]

    def over_served(self, method: str) -> list[Row]:
        """Returns the tasks of targets, set by set, with more than 1.5 times their fair share of picks."""
        return [row for row in self.tasks if row["fair"] and row[method] > OVER_SERVED * row["fair"]]

    def balance(self, method: str) -> dict[str, float]:
        """Returns how the picks are shared among the targets' tasks: `most_targets` and `fewest_targets`, mean picks
        over fair share of the tasks with the most and the fewest targets, and `tightness`, the correlation of
        picks over fair share with the tightness of the task's targets, over tasks of all sets (NaN without variation).
        """
        groups: dict[tuple[int, str], list[float]] = {}
        for target in self.targets:
            groups.setdefault((target["set"], target["task"]), []).append(target["tightness"])
        tasks = [row for row in self.tasks if row["fair"]]
        served = np.array([row[method] / row["fair"] for row in tasks])
        tightness = np.array([np.mean(groups[row["set"], row["task"]]) for row in tasks])
        counts = np.array([len(groups[row["set"], row["task"]]) for row in tasks])
        varies = len(tasks) > 1 and served.std() > 0 and tightness.std() > 0
        return {
            "most_targets": float(served[counts == counts.max()].mean()),
            "fewest_targets": float(served[counts == counts.min()].mean()),
            "tightness": float(np.corrcoef(served, tightness)[0, 1]) if varies else float("nan"),
        }

    def remaining_variance(self) -> Comparison:
        """Returns the mean share of variance left at a set's targets, ITL minus round-robin."""
        itl, rival = (
            {
                number: statistics.fmean(row[f"{method}_left"] for row in self.targets if row["set"] == number)
                for number in {row["set"] for row in self.targets}
            }
            for method in ("itl", "round_robin")
        )
        return Comparison.of(itl, rival, lower_is_better=True)

    def other_tasks(self, method: str) -> dict[str, float]:
        """Returns the picks of a set, on average, by task of no target, the most frequent first."""
        names = {row["task"] for row in self.tasks if row["fair"] is None}
        counts = {
            name: sum(row[method] for row in self.tasks if row["task"] == name and row["fair"] is None) / self.num_sets
            for name in names
        }
        return dict(
            sorted(((name, count) for name, count in counts.items() if count), key=lambda item: (-item[1], item[0]))
        )

    def profile(self, method: str, group: str) -> dict[str, float | None]:
        """Returns means over the picks of all sets: `count` for each set, `near`, `nearest` and `average`.

        Args:
            method (`str`):
                `"itl"` or `"round-robin"`.
            group (`str`):
                `"task"` for picks of the targets' tasks, `"other"` for all others.
        """
        rows = [cell for cell in self.cells[method] if cell[f"{group}_count"]]
        counts = [row[f"{group}_count"] for row in rows]
        means: dict[str, float | None] = {"count": sum(counts) / self.num_sets}
        for name in ("near", "nearest", "average"):
            values = [row[f"{group}_{name}"] for row in rows]
            means[name] = float(np.average(values, weights=counts)) if rows else None
        return means


def diagnoses(tables: Mapping[str, Sequence[Row]]) -> list[Diagnosis]:
    """Returns all pools and shares with measurements of ITL and round-robin, in the order of the pools."""
    places = {(row["pool"], row["shares"]) for row in tables["cells"]}
    result = []
    for place in sorted(places, key=lambda each: (list(POOLS).index(each[0]), list(SHARES).index(each[1]))):
        cells: dict[str, list[Row]] = {}
        for row in _of_place(tables["cells"], place):
            cells.setdefault(row["change"], []).append(row)
        if {ITL.name, ROUND_ROBIN.name} <= set(cells):
            details = (_of_place(tables[name], place) for name in ("targets", "tasks"))
            result.append(Diagnosis(*place, cells, *details))
    return result


def mean(rows: Sequence[Row], column: str) -> float | None:
    """Returns the mean of a column, `None` without rows."""
    return statistics.fmean(row[column] for row in rows) if rows else None


def _of_place(rows: Sequence[Row], place: tuple[str, str]) -> list[Row]:
    return [row for row in rows if (row["pool"], row["shares"]) == place]


def _by_set(cells: Sequence[Row], column: str) -> dict[int, float]:
    return {cell["set"]: cell[column] for cell in cells if cell[column] is not None}
