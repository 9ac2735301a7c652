"""A pool of rows, labelled rows of the tasks that targets come from, and target sets that are drawn from them.

The unit of a comparison is the target set: four tasks, prompts of each, and held-out rows of the same tasks. All
methods get the same sets, and standard errors are over sets.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, get_args

import numpy as np
from datasets import Dataset

from recipes.benchmarks.fine_tuning.variants import EQUAL, HANDFUL, UNEQUAL
from recipes.benchmarks.ten_pools.rows import Row

Half = Literal["development", "test"]
SharesName = Literal["equal", "mixture", "handful"]
HALVES: tuple[str, ...] = get_args(Half)
#: Numbers of targets of a set's four tasks. In a mixture the first task of the set has the most.
SHARES: Mapping[str, tuple[int, ...]] = {"equal": EQUAL, "mixture": UNEQUAL, "handful": HANDFUL}
TASKS_PER_SET = 4
#: Held-out rows of each task, and the fewest that a loss is measured on.
HELD_OUT, FEWEST_HELD_OUT = 16, 8


@dataclass(frozen=True)
class Part:
    """Rows of a pool that are embedded together and stored under one name.

    Args:
        name (`str`):
            Name of the folder of their features. Pools that share rows share the folder.
        rows (`Dataset`):
            Columns `prompt`, `completion` and `task`.
    """

    name: str
    rows: Dataset


@dataclass(frozen=True)
class TargetSet:
    """Four tasks, with target prompts and held-out rows.

    Args:
        number (`int`):
            Number of the set.
        targets (`dict[str, np.ndarray]`):
            Rows of `Pool.bank` by task.
        held_out (`dict[str, np.ndarray]`):
            Rows of `Pool.held_out` by task.
    """

    number: int
    targets: dict[str, np.ndarray]
    held_out: dict[str, np.ndarray]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in the order of their shares."""
        return tuple(self.targets)

    @property
    def shares(self) -> dict[str, int]:
        """The number of targets of each task."""
        return {task: len(rows) for task, rows in self.targets.items()}

    @property
    def target_rows(self) -> np.ndarray:
        """(m,) rows of `Pool.bank`, ordered by task."""
        return np.concatenate(list(self.targets.values()))


@dataclass(frozen=True)
class Pool:
    """A pool and the tasks whose prompts may be targets.

    Args:
        name (`str`):
            Name in the results.
        parts (`Sequence[Part]`):
            Rows that may be picked.
        bank (`Part`):
            Labelled rows of the target tasks. Targets are drawn from them.
        halves (`Mapping[str, Sequence[str]]`):
            Tasks for choices (`"development"`) and for reports (`"test"`).
        separate_held_out (`Dataset`, *optional*):
            Rows that only losses are measured on. By default these are rows of the bank that are no targets of the set.
        originals (`np.ndarray`, *optional*):
            (N,) row that each row is a copy of. By default no row is a copy.
        completions (`Mapping[int, str]`, *optional*):
            Wrong completions, by row.
        garbage (`frozenset[str]`, *optional*):
            Tasks of rows that are of no use.
        most_per_task (`int`, *optional*):
            Largest number of rows of each of a set's tasks that stay in its pool. By default all.
        labelled (`bool`, *optional*, defaults to `True`):
            Whether the tasks of the pool's rows say which picks are relevant.
    """

    name: str
    parts: Sequence[Part]
    bank: Part
    halves: Mapping[str, Sequence[str]]
    separate_held_out: Dataset | None = None
    originals: np.ndarray | None = None
    completions: Mapping[int, str] = field(default_factory=dict)
    garbage: frozenset[str] = frozenset()
    most_per_task: int | None = None
    labelled: bool = True

    @property
    def held_out(self) -> Dataset:
        """The rows that `TargetSet.held_out` refers to."""
        return self.bank.rows if self.separate_held_out is None else self.separate_held_out

    @cached_property
    def texts(self) -> list[tuple[str, str]]:
        """Prompt and completion of every row of the pool."""
        pairs = [pair for part in self.parts for pair in zip(part.rows["prompt"], part.rows["completion"], strict=True)]
        for number, completion in self.completions.items():
            pairs[number] = (pairs[number][0], completion)
        return pairs

    @cached_property
    def tasks(self) -> np.ndarray:
        """(N,) task of every row of the pool."""
        return np.array([task for part in self.parts for task in part.rows["task"]])

    @cached_property
    def row_originals(self) -> np.ndarray:
        """(N,) `originals`, or every row's own number."""
        return np.arange(len(self.tasks)) if self.originals is None else self.originals

    @cached_property
    def spoilt(self) -> np.ndarray:
        """(N,) whether a row is garbage or has a wrong completion."""
        is_spoilt = np.isin(self.tasks, list(self.garbage))
        is_spoilt[list(self.completions)] = True
        return is_spoilt

    def available_rows(self, tasks: Sequence[str]) -> np.ndarray:
        """Returns the rows of the pool for a set of these tasks, (M,)."""
        rows = np.arange(len(self.tasks))
        if self.most_per_task is None:
            return rows
        left_out = [np.flatnonzero(self.tasks == task)[self.most_per_task :] for task in tasks]
        return np.setdiff1d(rows, np.concatenate(left_out))

    def row(self, number: int) -> Row:
        """Returns a row of the pool for training."""
        prompt, completion = self.texts[number]
        return {"prompt": prompt, "completion": completion}


def target_sets(pool: Pool, half: str, count: int, shares: str = "equal") -> list[TargetSet]:
    """Draws target sets 0, 1, ..., `count` - 1 of a half of the tasks.

    A set's number determines it: more sets do not change those before. The tasks are shuffled and taken four at a time,
    then shuffled again, so that all of them are used equally often. A task's prompts are shuffled once and taken in
    turn, so that sets with the same task have different targets as long as there are enough.

    Args:
        pool (`Pool`):
            The pool.
        half (`str`):
            `"development"` or `"test"`.
        count (`int`):
            Number of sets.
        shares (`str`, *optional*, defaults to `"equal"`):
            `"equal"`: 11 targets of each task, `"mixture"`: 24, 12, 6 and 3, `"handful"`: 2 of each.

    Raises:
        `ValueError`: If a name is unknown, or fewer than four tasks of the half have enough labelled rows.
    """
    if half not in HALVES or shares not in SHARES:
        raise ValueError(f"no half {half!r} or shares {shares!r}; known: {', '.join((*HALVES, *SHARES))}")
    rng = random.Random(f"{pool.bank.name}/{half}/{shares}")
    turns = _turns(pool.bank.rows, rng)
    held_out = turns if pool.separate_held_out is None else _turns(pool.separate_held_out, rng)
    usable_tasks = [task for task in pool.halves[half] if _is_enough(pool, turns[task], max(SHARES[shares]))]
    if len(usable_tasks) < TASKS_PER_SET:
        raise ValueError(
            f"pool {pool.name!r}: only {len(usable_tasks)} tasks of the {half} half have enough labelled rows for "
            f"shares {shares!r}; a set has {TASKS_PER_SET}"
        )
    groups = _groups(usable_tasks, rng)
    sets = []
    for number in range(count):
        tasks = next(groups)
        targets = {task: turns[task].take(size) for task, size in zip(tasks, SHARES[shares], strict=True)}
        sets.append(TargetSet(number, targets, {task: held_out[task].rest(targets[task], pool) for task in tasks}))
    return sets


def _is_enough(pool: Pool, turn: _Turn, size: int) -> bool:
    needed = size + (FEWEST_HELD_OUT if pool.separate_held_out is None else 0)
    return len(turn.rows) >= needed


def _groups(tasks: Sequence[str], rng: random.Random) -> Iterator[list[str]]:
    while True:
        order = rng.sample(list(tasks), len(tasks))
        for start in range(0, len(order) - TASKS_PER_SET + 1, TASKS_PER_SET):
            yield order[start : start + TASKS_PER_SET]


class _Turn:
    """Rows of one task in a fixed random order, taken in turn."""

    def __init__(self, rows: Sequence[int], rng: random.Random) -> None:
        self.rows = np.array(rng.sample(list(rows), len(rows)))
        self._next = 0

    def take(self, size: int) -> np.ndarray:
        """Returns the next `size` rows. After the last comes the first again."""
        taken_rows: np.ndarray = self.rows[(self._next + np.arange(size)) % len(self.rows)]
        self._next += size
        return taken_rows

    def rest(self, targets: np.ndarray, pool: Pool) -> np.ndarray:
        """Returns the next rows for the loss: after the targets, and none of them if they are from the same rows."""
        if pool.separate_held_out is not None:
            return self.take(min(HELD_OUT, len(self.rows)))
        after_targets = (self._next + np.arange(len(self.rows))) % len(self.rows)
        rows = self.rows[after_targets]
        return rows[~np.isin(rows, targets)][:HELD_OUT]


def _turns(rows: Dataset, rng: random.Random) -> dict[str, _Turn]:
    numbers: dict[str, list[int]] = {}
    for number, task in enumerate(rows["task"]):
        numbers.setdefault(task, []).append(number)
    return {task: _Turn(numbers[task], rng) for task in sorted(numbers)}


def split_halves(name: str, tasks: Sequence[str], development: Sequence[str] = ()) -> dict[str, list[str]]:
    """Splits tasks into two halves at random, always in the same way.

    Args:
        name (`str`):
            Name that determines the split.
        tasks (`Sequence[str]`):
            All tasks.
        development (`Sequence[str]`, *optional*):
            Tasks that choices were made on before. If there are any, they are the development half and all others the
            test half.
    """
    if development:
        return {half: [task for task in tasks if (task in development) == (half == "development")] for half in HALVES}
    order = random.Random(f"{name}/halves").sample(sorted(tasks), len(tasks))
    middle = len(order) // 2
    return {"development": sorted(order[:middle]), "test": sorted(order[middle:])}
