"""What the screening finds: `OMP_NUM_THREADS=1 python -m recipes.benchmarks.screening` (results/screening.json).

Rows of a pool of generated tasks, where all rows of a kind share their wording, serve as targets; the pool holds each
of them once, changed in one of five ways, and never as it was. Counted is how many of the changed copies `screen` finds
with the nearest rows of all-MiniLM-L6-v2 as candidates, how many it finds with all rows as candidates (`MOST_HOLDERS`
then counts all rows), how many rows that are no copies it takes for copies, and how long it takes. Beside it the usual
rule, that a copy holds 60% of a text's runs of four words, without leaving out shared wording.
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


def _dropped(text: str, rng: random.Random) -> str:
    words = text.split(" ")
    return " ".join(word for word in words if rng.random() > 0.05) or text


def _framed(text: str, rng: random.Random) -> str:
    return f"Please help me with this one. {text} Thank you, and explain what you did."


def _within(text: str, rng: random.Random) -> str:
    filler = "The weather report for the coming week speaks of rain in the north and sun in the south of the country. "
    return filler * 3 + text + " " + filler * 3


EDITS: dict[str, Callable[[str, random.Random], str]] = {
    "letter case and white space": _case,
    "one word replaced": _one_word,
    "one word in twenty dropped": _dropped,
    "a sentence before and after": _framed,
    "within a text of some 120 words": _within,
}


def found() -> dict[str, Any]:
    """Copies found and rows taken for copies."""
    rows = reasoning_pool(ROWS_PER_TASK)
    texts = [messages[0]["content"] for messages in rows["prompt"]]
    rng = random.Random(0)
    chosen = sorted(rng.sample(range(len(texts)), TARGETS))
    kinds = [list(EDITS)[i % len(EDITS)] for i in range(TARGETS)]
    pool = list(texts)
    for number, kind in zip(chosen, kinds, strict=True):
        pool[number] = EDITS[kind](texts[number], rng)
    rows_of, targets = Dataset.from_dict({"prompt": pool}), Dataset.from_dict({"prompt": [texts[i] for i in chosen]})
    model = embedder("minilm")
    features, anchors = embed(rows_of, model), embed(targets, model)
    nearest = (features @ anchors.T).argsort(0)[::-1][:32]  # (32, m)
    started = time.process_time()
    reading = read_dataset(rows_of)
    screened = screen(rows_of, [], nearest, reading, targets["prompt"][:])
    seconds = time.process_time() - started
    everything = screen(rows_of, list(range(len(pool))), nearest, reading, targets["prompt"][:])
    return {
        "rows": len(pool),
        "targets": TARGETS,
        "cpu_seconds": seconds,
        "candidates: nearest 10 and a sample": {"sample": SAMPLE_ROWS, **_score(screened.copies, chosen, kinds)},
        "candidates: all rows": _score(everything.copies, chosen, kinds),
        "all runs count, all rows": _score(_plain(pool, targets["prompt"][:]), chosen, kinds),
    }


def _plain(pool: list[str], targets: list[str]) -> tuple[Copy, ...]:
    held = [runs(text) for text in pool]
    return tuple(
        Copy(target, row, None, "near")
        for target, text in enumerate(targets)
        for row, others in enumerate(held)
        if len(runs(text) & others) >= NEAR * len(runs(text))
    )


def _score(copies: tuple[Copy, ...], chosen: list[int], kinds: list[str]) -> dict[str, Any]:
    pairs = {(copy.target, copy.row) for copy in copies}
    hits = [(target, row) in pairs for target, row in enumerate(chosen)]
    return {
        "found": {kind: f"{sum(np.array(hits)[np.array(kinds) == kind])}/{kinds.count(kind)}" for kind in EDITS},
        "found_in_all": sum(hits),
        "other_rows_taken_for_copies": len(pairs) - sum(hits),
    }


if __name__ == "__main__":
    run({"found": found}, RESULTS, __doc__)
