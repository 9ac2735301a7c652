"""Builds the pool, the unlabelled targets and the labelled held-out rows. No prompt occurs in two of the three."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

from datasets import Dataset

from recipes.offline import Row, reasoning_pool, reasoning_rows

# The task is a mixture in unequal shares. Picking the nearest rows fails in this case, because the most frequent kind
# of target dominates the mean.
TARGET_SHARES = {
    "word_sequence_reversal": 24,
    "sentence_reordering": 12,
    "number_filtering": 6,
    "fraction_simplification": 3,
}


@dataclass(frozen=True)
class Data:
    """The pool to select from, the target prompts, and the held-out rows to measure the loss on."""

    pool: Dataset
    targets: Dataset
    held_out: Dataset

    def digest(self) -> str:
        """Returns a hash of all rows, the same in every process."""
        rows = [self.pool.to_list(), self.targets.to_list(), self.held_out.to_list()]
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Writes pool and targets as `pool.jsonl` and `targets.jsonl`, which the command line reads."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, rows in (("pool", self.pool), ("targets", self.targets)):
            draft = folder / f"{name}.{os.getpid()}"
            draft.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
            os.replace(draft, folder / f"{name}.jsonl")


def quickstart_data(rows_per_task: int = 47, heldout_per_task: int = 32, seed: int = 0) -> Data:
    """Builds the three data sets; takes a few seconds.

    Args:
        rows_per_task (`int`, *optional*, defaults to 47):
            Number of rows of each generator in the pool; at most twice as many of each conversation topic.
        heldout_per_task (`int`, *optional*, defaults to 32):
            Number of labelled rows of each target task.
        seed (`int`, *optional*, defaults to 0):
            Seed of the generators.
    """
    pool = reasoning_pool(rows_per_task, seed)
    used_prompts = {messages[0]["content"] for messages in pool["prompt"]}
    # The three seeds must differ. Otherwise the generators would mostly repeat the pool's rows, which are excluded.
    held_out = reasoning_rows(dict.fromkeys(TARGET_SHARES, heldout_per_task), seed + 1_000_003, exclude=used_prompts)
    used_prompts |= {row["prompt"][0]["content"] for row in held_out}
    targets = reasoning_rows(TARGET_SHARES, seed + 2_000_003, exclude=used_prompts)
    return Data(pool, Dataset.from_list([_without_answer(row) for row in targets]), Dataset.from_list(held_out))


def _without_answer(row: Row) -> Row:
    # `task` stays for the counts in the report; the selector reads only the prompt.
    return {"prompt": row["prompt"], "task": row["task"]}
