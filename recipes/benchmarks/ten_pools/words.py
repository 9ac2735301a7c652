"""The pool of other words: generated tasks whose targets ask for the same in wordings that the pool does not have.

Every reasoning-gym task has its own wording and three more, written by hand (`wordings.yaml`). Pool rows have its own
or the first of the three, in turn; targets and held-out rows have the second or the third. The content of a question
(numbers, lists, tables) is found by regular expressions and put into the other wording as it is. Where content and
instruction cannot be separated (`gsm_symbolic`, `aiw`, `calendar_arithmetic` and others with `swap`), the question's
own text stays, fixed phrases in it are replaced, and sentences that are written for this benchmark stand around it:
these rows share more words with the pool than the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml
from datasets import Dataset

from recipes.benchmarks.ten_pools.generated import DEVELOPMENT_TASKS, bank_rows, pool_rows
from recipes.benchmarks.ten_pools.pool import Part, Pool, split_halves
from recipes.benchmarks.ten_pools.rows import CUE, Row
from recipes.offline import REASONING_TASKS

POOL_WORDINGS, TARGET_WORDINGS = (None, 0), (1, 2)


@dataclass(frozen=True)
class Wordings:
    """The other wordings of a task.

    Args:
        find (`Sequence[str]`):
            Regular expressions of the whole question with named groups.
        say (`Sequence[str]`):
            Wordings with the groups' names in braces.
        swap (`Sequence[tuple[str, Sequence[str]]]`, *optional*):
            Regular expressions of phrases within the groups, with a replacement for each wording.
    """

    find: Sequence[str]
    say: Sequence[str]
    swap: Sequence[tuple[str, Sequence[str]]] = ()

    def reword(self, question: str, number: int) -> str:
        """Returns the question in wording `number`.

        Raises:
            `ValueError`: If no expression matches the question.
        """
        matches = (re.fullmatch(pattern, question, re.DOTALL) for pattern in self.find)
        groups = next((match.groupdict() for match in matches if match), None)
        if groups is None:
            raise ValueError(f"no wording for the question {question!r}")
        for pattern, replacements in self.swap:
            groups = {name: re.sub(pattern, replacements[number], text or "") for name, text in groups.items()}
        return self.say[number].format(**groups)


@cache
def all_wordings() -> Mapping[str, Wordings]:
    """Returns the wordings of every task."""
    path = Path(__file__).with_name("wordings.yaml")
    return {task: Wordings(**entry) for task, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items()}


def word_pool() -> Pool:
    """Returns the pool of generated tasks, with targets in other words."""
    tasks = list(REASONING_TASKS)
    return Pool(
        "words",
        [Part("words/pool", Dataset.from_list(reworded(pool_rows(), POOL_WORDINGS)))],
        Part("words/bank", Dataset.from_list(reworded(bank_rows(), TARGET_WORDINGS))),
        split_halves("words", tasks, sorted(DEVELOPMENT_TASKS)),
    )


def reworded(rows: Sequence[Row], numbers: Sequence[int | None]) -> list[Row]:
    """Returns the rows with these wordings in turn; `None` is the task's own. Conversations stay as they are."""
    turns: dict[str, int] = {}
    new_rows = []
    for row in rows:
        turn = turns[row["task"]] = turns.get(row["task"], -1) + 1
        number, wordings = numbers[turn % len(numbers)], all_wordings().get(row["task"])
        question = row["prompt"].removesuffix(CUE)
        if wordings is not None and number is not None:
            question = wordings.reword(question, number)
        new_rows.append({**row, "prompt": f"{question}{CUE}"})
    return new_rows
