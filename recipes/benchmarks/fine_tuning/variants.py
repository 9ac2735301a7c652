"""The variants of the pool and of the targets' shares."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from recipes.benchmarks.bigbench import Row
from recipes.benchmarks.fine_tuning.rows import BenchmarkRows

VariantName = Literal[
    "as-is", "near-duplicates", "mixture", "few", "relatives", "noise", "handful", "handful-near-duplicates"
]
VARIANTS: tuple[str, ...] = get_args(VariantName)
#: Pools that are the same for all sets of targets. Picks that do not use targets are shared among them.
SHARED_POOLS = {
    "as-is": "pool",
    "mixture": "pool",
    "handful": "pool",
    "near-duplicates": "pool and copies",
    "handful-near-duplicates": "pool and copies",
    "noise": "pool and garbage",
}
#: Pools with edited copies.
REPEATING = frozenset(name for name, pool in SHARED_POOLS.items() if pool == "pool and copies")
#: Numbers of targets of a set's four tasks.
EQUAL, UNEQUAL, HANDFUL = (11, 11, 11, 11), (24, 12, 6, 3), (2, 2, 2, 2)
COUNTS = {"mixture": UNEQUAL, "handful": HANDFUL, "handful-near-duplicates": HANDFUL}
FEW = 20
WRONG_SHARE = 0.2


@dataclass(frozen=True)
class Variant:
    """A pool and the targets' shares.

    Args:
        name (`str`):
            `"as-is"`; `"near-duplicates"`: some rows repeated 5 to 20 times with small edits; `"mixture"`: as it is,
            targets in shares of 24/12/6/3; `"few"`: at most 20 rows of each target task; `"relatives"`: none, only
            other tasks; `"noise"`: a fifth of the answers are another row's, and rows of shuffled words; `"handful"`:
            as it is, two targets per task; `"handful-near-duplicates"`: two targets per task and the copies.
        numbers (`np.ndarray`):
            (N,) row numbers of `BenchmarkRows.everything` that are in the pool.
        shares (`dict[str, int]`):
            Number of targets of each task.
        answers (`dict[int, str]`):
            Completions that differ from the rows' own, by row of `everything`.
    """

    name: str
    numbers: np.ndarray
    shares: dict[str, int]
    answers: dict[int, str]

    def row(self, rows: BenchmarkRows, number: int) -> Row:
        """Returns a row of `everything` with the completion that it has in this pool."""
        row: Row = rows.everything[int(number)]
        return {**row, "completion": self.answers.get(int(number), row["completion"])}


def variant(rows: BenchmarkRows, name: str, targets: str) -> Variant:
    """Returns the pool of this name for a set of targets.

    Raises:
        `ValueError`: If a name is unknown.
    """
    if name not in VARIANTS or targets not in rows.sets:
        raise ValueError(f"no variant {name!r} for {targets!r}; known: {', '.join(VARIANTS)}; {', '.join(rows.sets)}")
    tasks = rows.sets[targets]
    counts = COUNTS.get(name, EQUAL)
    shares = {task: counts[place % len(counts)] for place, task in enumerate(tasks)}
    answers = wrong_answers(rows) if name == "noise" else {}
    return Variant(name, _numbers(rows, name, tasks), shares, answers)


def _numbers(rows: BenchmarkRows, name: str, tasks: Sequence[str]) -> np.ndarray:
    base, copies, garbage = (len(part) for part in (rows.pool, rows.copies, rows.garbage))
    pool = np.arange(base)
    if name in REPEATING:
        return np.arange(base + copies)
    if name == "noise":
        return np.concatenate([pool, base + copies + np.arange(garbage)])
    if name in ("few", "relatives"):
        num_left = FEW if name == "few" else 0
        labels = np.array(rows.pool["task"])
        other_rows = [np.flatnonzero(labels == task)[num_left:] for task in tasks]
        return np.setdiff1d(pool, np.concatenate(other_rows))
    return pool


def wrong_answers(rows: BenchmarkRows) -> dict[int, str]:
    """Returns wrong answers for a fifth of the pool's rows, taken from other rows of their task."""
    rng = random.Random(rows.seed + 3)
    tasks, completions = rows.pool["task"], rows.pool["completion"]
    by_task: dict[str, list[int]] = {}
    for number, task in enumerate(tasks):
        by_task.setdefault(task, []).append(number)
    wrong_rows = rng.sample(range(len(rows.pool)), round(WRONG_SHARE * len(rows.pool)))
    return {number: completions[rng.choice(by_task[tasks[number]])] for number in wrong_rows}
