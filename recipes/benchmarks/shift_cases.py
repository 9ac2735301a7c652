"""Pools and target sets for the measurement of shift: ordinary ones, tasks that the pool lacks, and shifted ones.

The development half has every second task, topic and language and four of the eight templates, the other half the rest;
the pool is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from recipes.benchmarks.shift_texts import HALVES, TARGETS_PER_TASK, TEMPLATES, Rows

#: Target sets drawn of each kind, and rows of each task where the pool has few.
DRAWS, FEW = 10, 3
#: Targets of a language, and how many prompts of it there must be.
LANGUAGE_TARGETS, FEWEST_PROMPTS = 24, 60
#: Names of topics that have another name in some language.
TOPICS = {
    "IA": "ai", "computer": "computers", "coversations": "conversations", "dinero": "money", "emociones": "emotion",
    "emotions": "emotion", "greeting": "greetings", "history_brasil": "history", "perfilbot": "botprofile",
    "profile": "botprofile", "psicologia": "psychology", "sport": "sports",
}  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A pool and a target set.

    Args:
        kind (`str`):
            What the targets are to the pool.
        group (`str`):
            `"ordinary"`, `"absent"` (tasks that the pool lacks) or `"shifted"`.
        half (`str`):
            `"development"` or `"held out"`.
        pool (`Rows`):
            The pool.
        targets (`Rows`):
            The targets.
    """

    kind: str
    group: str
    half: str
    pool: Rows
    targets: Rows


class TaskCases:
    """Target sets of generated tasks and of topics of English conversation.

    Args:
        parts (`dict[str, Rows]`):
            What `task_rows` returns.
        half (`str`):
            `"development"` or `"held out"`.
    """

    def __init__(self, parts: dict[str, Rows], half: str) -> None:
        self.parts, self.half = parts, half
        self.pool, self.bank = parts["pool"], parts["bank"]
        self.tasks = list(dict.fromkeys(self.bank.labels.tolist()))[HALVES.index(half) :: 2]
        self.is_chat = np.char.startswith(self.pool.labels, "chat/")
        self.topics = list(dict.fromkeys(self.pool.labels[self.is_chat].tolist()))[HALVES.index(half) :: 2]
        self.rng = np.random.default_rng(HALVES.index(half))

    def __iter__(self) -> Iterator[Case]:
        yield from self.ordinary()
        yield from self.absent()
        yield from self.shifted()

    def ordinary(self) -> Iterator[Case]:
        """Yields targets from tasks that the pool has."""
        case: Callable[..., Case] = partial(Case, group="ordinary", half=self.half)
        for task in self.tasks:
            yield case(f"one task, {TARGETS_PER_TASK} targets", pool=self.pool, targets=self.of([task]))
            yield case("one task, 6 targets", pool=self.pool, targets=self.of([task], 6))
            few = self.pool[self.keep([task])]
            yield case(f"one task, {FEW} rows of it in the pool", pool=few, targets=self.of([task]))
        copies = self.with_copies()
        for _ in range(DRAWS):
            seven = self.draw(7)
            yield case("seven tasks, 4 targets each", pool=self.pool, targets=self.of(seven, 4))
            yield case("seven tasks, 1 target each", pool=self.pool, targets=self.of(seven, 1))
            few = self.pool[self.keep(seven)]
            yield case(f"seven tasks, {FEW} rows of each in the pool", pool=few, targets=self.of(seven, 4))
            yield case("seven tasks, pool with near-duplicates", pool=copies, targets=self.of(seven, 4))
            yield case("one task, pool with near-duplicates", pool=copies, targets=self.of(seven[:1]))
            unequal = [self.of([task], count) for task, count in zip(seven, (12, 2, 2), strict=False)]
            yield case("three tasks, 12/2/2 targets", pool=self.pool, targets=join(unequal))
            rest, targets = self.take_out(np.arange(len(self.pool)), LANGUAGE_TARGETS)
            yield case("rows of the pool", pool=rest, targets=targets)
        for topic in self.topics:
            rest, targets = self.take_out(np.flatnonzero(self.pool.labels == topic), 8)
            yield case("one topic of conversation", pool=rest, targets=targets)

    def absent(self) -> Iterator[Case]:
        """Yields targets from tasks that the pool lacks, in the style of the pool."""
        case = partial(Case, group="absent", half=self.half)
        for task in self.tasks:
            yield case("one task that the pool lacks", pool=self.pool[self.keep([task], 0)], targets=self.of([task]))
        for _ in range(DRAWS):
            for count, word in ((2, "two"), (3, "three"), (7, "seven")):
                tasks = self.draw(count)
                pool = self.pool[self.keep(tasks, 0)]
                yield case(f"{word} tasks that the pool lacks", pool=pool, targets=self.of(tasks, 4))

    def shifted(self) -> Iterator[Case]:
        """Yields targets in a template that the pool's rows do not have."""
        case = partial(Case, group="shifted", half=self.half, pool=self.pool)
        for name in TEMPLATES[self.half]:
            for task in self.tasks:
                targets = self.of([task], part=name)
                if len(targets) == TARGETS_PER_TASK:
                    yield case(f"{name}: one task", targets=targets)
            for _ in range(DRAWS):
                yield case(f"{name}: three tasks", targets=self.of(self.draw(3), 4, name))
                yield case(f"{name}: seven tasks", targets=self.of(self.draw(7), 4, name))

    def draw(self, count: int) -> list[str]:
        """Draws different tasks of this half."""
        return [str(task) for task in self.rng.choice(self.tasks, count, replace=False)]

    def of(self, tasks: Sequence[str], count: int = TARGETS_PER_TASK, part: str = "bank") -> Rows:
        """Returns the first targets of each task."""
        rows = self.parts[part]
        return rows[np.concatenate([np.flatnonzero(rows.labels == task)[:count] for task in tasks])]

    def keep(self, tasks: Sequence[str], count: int = FEW) -> np.ndarray:
        """Returns the numbers of the pool's rows, with `count` of each of these tasks."""
        dropped = [np.flatnonzero(self.pool.labels == task)[count:] for task in tasks]
        return np.setdiff1d(np.arange(len(self.pool)), np.concatenate(dropped))

    def with_copies(self) -> Rows:
        """Returns the pool with edited copies of some of its rows."""
        return join([self.pool, self.parts["copies"]])

    def take_out(self, rows: np.ndarray, count: int) -> tuple[Rows, Rows]:
        """Returns the pool without some of these rows, and these as targets."""
        targets = self.rng.choice(rows, min(count, len(rows) - 1), replace=False)
        rest = np.setdiff1d(np.arange(len(self.pool)), targets)
        return self.pool[rest], self.pool[targets]


def language_cases(rows: Rows, half: str) -> Iterator[Case]:
    """Yields targets in one language, and a pool of all languages or of all others."""
    names, counts = np.unique(rows.languages, return_counts=True)
    rng = np.random.default_rng(HALVES.index(half))
    for language in names[counts >= FEWEST_PROMPTS][HALVES.index(half) :: 2]:
        own = np.flatnonzero(rows.languages == language)
        others = rows[rows.languages != language]
        for _ in range(2):
            targets = rng.choice(own, LANGUAGE_TARGETS, replace=False)
            pool = rows[np.setdiff1d(np.arange(len(rows)), targets)]
            size = "60 to 199" if len(own) < 200 else "200 or more"
            yield Case(f"a language of the pool ({size} rows)", "ordinary", half, pool, rows[targets])
            yield Case("another language", "shifted", half, others, rows[targets])
            yield Case("another language, 8 targets", "shifted", half, others, rows[targets[:8]])
        for topic in np.unique(rows.labels[own]):
            of_topic = own[rows.labels[own] == topic]
            if len(of_topic) >= LANGUAGE_TARGETS:
                targets = rng.choice(of_topic, 8, replace=False)
                pool = rows[np.setdiff1d(np.arange(len(rows)), targets)]
                yield Case("a topic in a language of the pool", "ordinary", half, pool, rows[targets])
                yield Case("another language, one topic", "shifted", half, others, rows[targets])


def join(parts: Sequence[Rows]) -> Rows:
    """Returns all rows of all parts."""
    names = ("features", "labels", "languages")
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))
