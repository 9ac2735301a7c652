"""The rows of the benchmark: a pool of many tasks, near-duplicates, garbage, target prompts and held-out rows.

No prompt occurs in two of pool, targets and held-out rows. Settings may be tuned on the tasks of the development sets;
results on the tasks of the test sets are only reported.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from datasets import Dataset, concatenate_datasets

from recipes.benchmarks.pools import COPIES, edit_text

NATURAL = "natural_instructions/subtask"
#: Four tasks each. In the unequal mixture the first task has the most targets.
DEVELOPMENT_SETS: Mapping[str, Sequence[str]] = {
    "symbols": (
        "dyck_languages",
        "list_functions/00_shot_baseline",
        "unnatural_in_context_learning/dates",
        "cs_algorithms/valid_parentheses",
    ),
    "figures": (
        "color/hex",
        "elementary_math_qa/question_only",
        "modified_arithmetic/two_digit_multiplication_plus_one",
        "simp_turing_concept/witness_set",
    ),
    "everyday": ("movie_recommendation", "misconceptions", "intent_recognition", "auto_categorization"),
    "wording": ("international_phonetic_alphabet_transliterate", "hyperbaton", "disambiguation_qa", "metaphor_boolean"),
    "people": ("social_iqa", "goal_step_wikihow/goal_inference", "winowhy", "implicatures"),
    "science": (
        f"{NATURAL}039_qasc_find_overlapping_words",
        f"{NATURAL}042_qasc_incorrect_option_generation",
        f"{NATURAL}044_essential_terms_identifying_essential_words",
        f"{NATURAL}050_multirc_answerability",
    ),
}
TEST_SETS: Mapping[str, Sequence[str]] = {
    "words": ("word_sorting", "language_games/pig_latin_encode", "word_unscrambling", "cryptonite"),
    "numbers": ("arithmetic/3_digit_subtraction", "unit_conversion/unit_addition_same", "matrixshapes", "operators"),
    "knowledge": ("qa_wikidata", "periodic_elements/subtask_1", "sports_understanding", "fact_checker/fever"),
    "grammar": (
        "linguistic_mappings/question_formation_json",
        "linguistic_mappings/past_tense_json",
        "tense",
        "language_identification",
    ),
    "reasoning": ("reasoning_about_colored_objects", "object_counting", "navigate", "date_understanding"),
    "instructions": (
        f"{NATURAL}038_qasc_combined_fact",
        f"{NATURAL}033_winogrande_answer_generation",
        f"{NATURAL}046_miscellaenous_question_typing",
        f"{NATURAL}040_qasc_question_generation",
    ),
}
#: Rows of each task that are reserved before the pool is built.
TARGETS_PER_SEED, SEEDS, HELD_OUT = 24, 3, 24


@dataclass(frozen=True)
class Sizes:
    """The sizes of the benchmark.

    Args:
        pool_per_task (`int`):
            Largest number of rows of each task in the pool.
        repeated_per_task (`int`):
            Number of rows of each task that have 5 to 20 edited copies in the pool with near-duplicates.
        garbage (`int`):
            Number of rows of shuffled words.
    """

    pool_per_task: int = 80
    repeated_per_task: int = 2
    garbage: int = 1500

    @property
    def rows_per_task(self) -> int:
        """The number of rows per task that a loader must provide."""
        return self.pool_per_task + TARGETS_PER_SEED * SEEDS + HELD_OUT


class BenchmarkRows:
    """All rows, from any data set with the columns `prompt`, `completion` and `task`.

    Args:
        rows (`Dataset`):
            At least `TARGETS_PER_SEED * SEEDS + HELD_OUT` rows of each task of a set, in addition to the rows for the
            pool.
        sets (`Mapping[str, Sequence[str]]`):
            Target sets by name, each a list of tasks.
        sizes (`Sizes`, *optional*):
            Numbers of rows.
        seed (`int`, *optional*, defaults to 0):
            Seed of edits and garbage.

    Raises:
        `ValueError`: If a task of a set has too few rows.
    """

    def __init__(
        self, rows: Dataset, sets: Mapping[str, Sequence[str]], sizes: Sizes | None = None, seed: int = 0
    ) -> None:
        self.rows, self.sets, self.sizes, self.seed = rows, sets, sizes or Sizes(), seed
        tasks = np.array(rows["task"])
        self._by_task = {task: np.flatnonzero(tasks == task) for task in dict.fromkeys(tasks.tolist())}
        num_reserved = TARGETS_PER_SEED * SEEDS + HELD_OUT
        for task in self.target_tasks:
            num_rows = len(self._by_task.get(task, ()))
            if num_rows <= num_reserved:
                raise ValueError(
                    f"task {task!r} of a target set has {num_rows} rows; more than {num_reserved} are needed"
                )

    @property
    def target_tasks(self) -> list[str]:
        """The tasks of all sets, without repetition."""
        return list(dict.fromkeys(task for tasks in self.sets.values() for task in tasks))

    @cached_property
    def pool(self) -> Dataset:
        """Rows of all tasks, without targets and held-out rows."""
        reserved_rows = dict.fromkeys(self.target_tasks, TARGETS_PER_SEED * SEEDS + HELD_OUT)
        parts = [
            numbers[reserved_rows.get(task, 0) :][: self.sizes.pool_per_task] for task, numbers in self._by_task.items()
        ]
        return self.rows.select(np.concatenate(parts))

    @cached_property
    def copy_originals(self) -> np.ndarray:
        """The row of the pool that each copy is made from, (C,)."""
        rng = random.Random(self.seed)
        tasks = np.array(self.pool["task"])
        originals: list[int] = []
        for task in dict.fromkeys(tasks.tolist()):
            numbers = np.flatnonzero(tasks == task).tolist()
            for row in rng.sample(numbers, self.sizes.repeated_per_task):
                originals += [row] * rng.randint(*COPIES)
        return np.array(originals, dtype=np.int64)

    @cached_property
    def copies(self) -> Dataset:
        """Rows of the pool with one small change each, in the order of `copy_originals`."""
        rng = random.Random(self.seed + 1)
        rows = self.pool.select(self.copy_originals).to_list()
        return Dataset.from_list([{**row, "prompt": edit_text(row["prompt"], rng)} for row in rows])

    @cached_property
    def garbage(self) -> Dataset:
        """Rows of shuffled words of several prompts, with the answer of another row."""
        rng = random.Random(self.seed + 2)
        pool = self.pool.to_list()
        rows = []
        for _ in range(self.sizes.garbage):
            words = " ".join(row["prompt"] for row in rng.sample(pool, 3)).split()
            text = " ".join(rng.sample(words, min(len(words), 40)))
            rows.append({**rng.choice(pool), "prompt": text, "task": "garbage", "family": "garbage"})
        return Dataset.from_list(rows)

    @cached_property
    def everything(self) -> Dataset:
        """Pool, copies and garbage, in this order. Row numbers of variants refer to it."""
        return concatenate_datasets([self.pool, self.copies, self.garbage])

    @cached_property
    def originals(self) -> np.ndarray:
        """For each row of `everything`, the row that it is a copy of, or its own number, (N,)."""
        own = np.arange(len(self.everything))
        own[len(self.pool) : len(self.pool) + len(self.copy_originals)] = self.copy_originals
        return own

    @cached_property
    def bank(self) -> Dataset:
        """Target prompts: `TARGETS_PER_SEED * SEEDS` of each task of a set, ordered by task."""
        return self._part(0, TARGETS_PER_SEED * SEEDS)

    @cached_property
    def held_out(self) -> Dataset:
        """`HELD_OUT` labelled rows of each task of a set, ordered by task."""
        return self._part(TARGETS_PER_SEED * SEEDS, TARGETS_PER_SEED * SEEDS + HELD_OUT)

    def _part(self, first: int, last: int) -> Dataset:
        return self.rows.select(np.concatenate([self._by_task[task][first:last] for task in self.target_tasks]))

    def target_rows(self, counts: Mapping[str, int], seed: int) -> np.ndarray:
        """Returns rows of `bank`: `counts` prompts of each task, different ones for each seed."""
        place = {task: number for number, task in enumerate(self.target_tasks)}
        first = TARGETS_PER_SEED * (seed % SEEDS)
        return np.concatenate(
            [TARGETS_PER_SEED * SEEDS * place[task] + first + np.arange(count) for task, count in counts.items()]
        )
