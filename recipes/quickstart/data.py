"""The pool, the unlabelled targets and the labelled held-out rows. No prompt occurs in two of the three."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from recipes.offline import Row, reasoning_pool, reasoning_rows

# The task to adapt to is a mixture in unequal shares: the case in which looking for the nearest rows fails, because the
# commonest kind of target outvotes the others.
TARGET_SHARES = {
    "word_sequence_reversal": 24,
    "sentence_reordering": 12,
    "number_filtering": 6,
    "fraction_simplification": 3,
}


@dataclass(frozen=True)
class Data:
    """Pool to select from, target prompts to select for, and rows to measure with."""

    pool: Dataset
    targets: Dataset
    held_out: Dataset

    def digest(self) -> str:
        """A hash of every row, the same in every process."""
        rows = [self.pool.to_list(), self.targets.to_list(), self.held_out.to_list()]
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Pool and targets as files that the command line reads, `pool.jsonl` and `targets.jsonl`."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("pool", self.pool), ("targets", self.targets)):
            draft = folder / f"{name}.{os.getpid()}"
            draft.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
            os.replace(draft, folder / f"{name}.jsonl")


def quickstart_data(rows_per_task: int = 47, heldout_per_task: int = 32, seed: int = 0) -> Data:
    """Builds the three data sets; takes a few seconds.

    Args:
        rows_per_task (`int`, *optional*, defaults to 47):
            See `recipes.offline.reasoning_pool`.
        heldout_per_task (`int`, *optional*, defaults to 32):
            Labelled rows of each target task.
        seed (`int`, *optional*, defaults to 0):
            Seed of the generators.
    """
    pool = reasoning_pool(rows_per_task, seed)
    taken = {messages[0]["content"] for messages in pool["prompt"]}
    # The seeds of the three must differ, or the generators would mostly repeat the pool's rows and be refused.
    held_out = reasoning_rows(dict.fromkeys(TARGET_SHARES, heldout_per_task), seed + 1_000_003, exclude=taken)
    taken |= {row["prompt"][0]["content"] for row in held_out}
    targets = reasoning_rows(TARGET_SHARES, seed + 2_000_003, exclude=taken)
    return Data(pool, Dataset.from_list([_unlabelled(row) for row in targets]), Dataset.from_list(held_out))


def _unlabelled(row: Row) -> Row:
    # `task` is kept for the report's counts; the selector reads the prompt alone.
    return {"prompt": row["prompt"], "task": row["task"]}
