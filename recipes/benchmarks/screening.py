"""Measures how many copies of targets the screening finds.

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.screening      # results/screening.json

The targets are rows of a pool of generated tasks, in which all rows of a kind share their wording. The pool has each
target once, changed in one of five ways, and never unchanged. The benchmark counts how many of the changed copies
`screen` finds with the nearest rows of all-MiniLM-L6-v2 as candidates, how many it finds with all rows as candidates
(`MOST_HOLDERS` then counts all rows), how many other rows it reports as copies, and how long it takes. For comparison:
the usual rule, that a copy has 60% of a text's runs of four words, without leaving out shared wording.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from itl_hf import embed
from itl_hf.embedding.row_reading import SAMPLE_ROWS, read_dataset
from itl_hf.selection.screening.overlap import NEAR, runs
from itl_hf.selection.screening.screening import Copy, screen
from recipes.benchmarks.parts import run
from recipes.benchmarks.pools import embedder
from recipes.offline import reasoning_pool

RESULTS = Path(__file__).parent / "results" / "screening.json"
ROWS_PER_TASK, TARGETS = 20, 200


def _case(text: str, rng: random.Random) -> str:
    return text.upper().replace(" ", "  ", 3)


def _one_word(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    words[rng.randrange(len(words))] = "changed"
    return " ".join(words)


def _drop_words(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    return " ".join(word for word in words if rng.random() > 0.05) or text


def _add_sentences(text: str, rng: random.Random) -> str:
    return f"Please help me with this one. {text} Thank you, and explain what you did."


def _within(text: str, rng: random.Random) -> str:
    filler = "The weather report for the coming week speaks of rain in the north and sun in the south of the country. "
    return filler * 3 + text + " " + filler * 3


EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "letter case and white space": _case,
    "one word replaced": _one_word,
    "one word in twenty dropped": _drop_words,
    "a sentence before and after": _add_sentences,
    "within a text of some 120 words": _within,
}


def count_copies() -> dict[str, Any]:
    """Counts the copies that the screening finds, and the other rows that it reports as copies."""
    rows = reasoning_pool(ROWS_PER_TASK)
    texts = [messages[0]["content"] for messages in rows["prompt"]]
    rng = random.Random(0)
    target_rows = sorted(rng.sample(range(len(texts)), TARGETS))
    kinds = [list(EDITS)[i % len(EDITS)] for i in range(TARGETS)]
    pool = list(texts)
    for number, kind in zip(target_rows, kinds, strict=True):
        pool[number] = EDITS[kind](texts[number], rng)
    rows_of, targets = (
        Dataset.from_dict({"prompt": pool}),
        Dataset.from_dict({"prompt": [texts[i] for i in target_rows]}),
    )
    model = embedder("minilm")
    features, anchors = embed(rows_of, model), embed(targets, model)
    nearest = (features @ anchors.T).argsort(0)[::-1][:32]  # (32, m)
    start_time = time.process_time()
    reading = read_dataset(rows_of)
    screening = screen(rows_of, [], nearest, reading, targets["prompt"][:])
    seconds = time.process_time() - start_time
    everything = screen(rows_of, list(range(len(pool))), nearest, reading, targets["prompt"][:])
    return {
        "rows": len(pool),
        "targets": TARGETS,
        "cpu_seconds": seconds,
        "candidates: nearest 10 and a sample": {"sample": SAMPLE_ROWS, **_score(screening.copies, target_rows, kinds)},
        "candidates: all rows": _score(everything.copies, target_rows, kinds),
        "all runs count, all rows": _score(_plain(pool, targets["prompt"][:]), target_rows, kinds),
    }


def _plain(pool: list[str], targets: list[str]) -> tuple[Copy, ...]:
    runs_per_row = [runs(text) for text in pool]
    return tuple(
        Copy(target, row, None, "near")
        for target, text in enumerate(targets)
        for row, others in enumerate(runs_per_row)
        if len(runs(text) & others) >= NEAR * len(runs(text))
    )


def _score(copies: tuple[Copy, ...], target_rows: list[int], kinds: list[str]) -> dict[str, Any]:
    pairs = {(copy.target, copy.row) for copy in copies}
    hits = [(target, row) in pairs for target, row in enumerate(target_rows)]
    return {
        "found": {kind: f"{sum(np.array(hits)[np.array(kinds) == kind])}/{kinds.count(kind)}" for kind in EDITS},
        "found_in_all": sum(hits),
        "other_rows_taken_for_copies": len(pairs) - sum(hits),
    }


if __name__ == "__main__":
    run({"found": count_copies}, RESULTS, __doc__)
