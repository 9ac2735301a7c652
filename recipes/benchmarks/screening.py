"""Measures how many copies of targets the screening finds.

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.screening      # results/screening.json

The targets are rows of a pool of generated tasks, in which all rows of a kind share their wording. The pool has each
target once, changed in one of five ways, and never unchanged. The benchmark counts how many of the changed copies
`screen` finds with the nearest rows of all-MiniLM-L6-v2 as candidates, how many it finds with all rows as candidates
(`MOST_HOLDERS` then counts all rows), how many other rows it reports as copies, and how long it takes. For comparison:
the usual rule, that a copy has 60% of a text's runs of four words, without leaving out shared wording.

Further parts count false alarms. `templates`: pools with few rows of each kind, and targets of the same kinds, of which
every fourth has a changed copy in the pool. `rounds`: a small part of the pool is screened, as in active rounds with
`candidates_per_round`, with and without what is known of the whole pool. `tool_calls`: rows that differ in the calls of
tools, or the tools, alone. They embed nothing.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from itl_hf import embed
from itl_hf.embedding.row_reading import SAMPLE_ROWS, read_dataset
from itl_hf.selection.screening.larger_pool import LargerPool, pool_wording
from itl_hf.selection.screening.overlap import NEAR, runs
from itl_hf.selection.screening.screening import Copy, screen
from itl_hf.text import as_dataset
from recipes.benchmarks.parts import run
from recipes.benchmarks.pools import embedder
from recipes.offline import reasoning_pool

RESULTS = Path(__file__).parent / "results" / "screening.json"
ROWS_PER_TASK, TARGETS = 20, 200
#: Rows and targets of each kind.
TEMPLATE_ROWS, TEMPLATE_TARGETS = (1, 2, 3, 5), (1, 4, 12)
NUM_CANDIDATES, NUM_ROUND_TARGETS = 100, 10
NUM_TOOL_ROWS = 40


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


def count_false_alarms() -> dict[str, Any]:
    """Counts rows that are called copies because they share the wording of targets."""
    rows = reasoning_pool(ROWS_PER_TASK)
    by_task: defaultdict[str, list[str]] = defaultdict(list)
    for messages, task in zip(rows["prompt"], rows["task"], strict=True):
        by_task[task].append(messages[0]["content"])
    generated = [texts for texts in by_task.values() if len(texts) == ROWS_PER_TASK]
    others = [text for texts in by_task.values() if len(texts) != ROWS_PER_TASK for text in texts]
    counts = {
        f"{num_rows} rows, {num_targets} targets": _count_in_templates(generated, others, num_rows, num_targets)
        for num_rows in TEMPLATE_ROWS
        for num_targets in TEMPLATE_TARGETS
    }
    found, false = (sum(one[name] for one in counts.values()) for name in ("copies_found", "false_alarms"))
    return {**counts, "precision": found / (found + false)}


def _count_in_templates(
    generated: list[list[str]], others: list[str], num_rows: int, num_targets: int
) -> dict[str, Any]:
    rng = random.Random(num_rows)
    edits = list(EDITS.values())
    pool = [text for texts in generated for text in texts[:num_rows]] + others
    targets = [text for texts in generated for text in texts[TEMPLATE_ROWS[-1] :][:num_targets]]
    copied = range(0, len(targets), 4)
    copies = {target: len(pool) + place for place, target in enumerate(copied)}
    pool += [edits[place % len(edits)](targets[target], rng) for place, target in enumerate(copied)]
    reported = {(copy.target, copy.row) for copy in _screen_all(pool, targets)}
    found = reported & set(copies.items())
    return {
        "targets": len(targets),
        "copies": len(copies),
        "copies_found": len(found),
        "false_alarms": len(reported - found),
        "targets_falsely_reported": len({target for target, _ in reported - found}),
    }


def _screen_all(pool: list[str], targets: list[str]) -> tuple[Copy, ...]:
    rows = Dataset.from_dict({"prompt": pool})
    nearest = np.zeros((1, len(targets)), dtype=np.int64)
    return screen(rows, range(len(pool)), nearest, read_dataset(rows), targets).copies


def count_in_rounds() -> dict[str, Any]:
    """Counts false alarms among the rows drawn for a round, with and without the wording of the whole pool."""
    texts = [messages[0]["content"] for messages in reasoning_pool(ROWS_PER_TASK)["prompt"]]
    random_source = np.random.default_rng(0)
    order = random_source.permutation(len(texts))
    targets, pool = [texts[i] for i in order[:TARGETS]], [texts[i] for i in order[TARGETS:]]
    rows = Dataset.from_dict({"prompt": pool})
    counts = {"with the whole pool": 0, "without": 0}
    for start in range(0, TARGETS, NUM_ROUND_TARGETS):
        some_targets = targets[start : start + NUM_ROUND_TARGETS]
        wording = pool_wording(rows, Dataset.from_dict({"prompt": some_targets}))
        drawn = np.sort(random_source.choice(len(pool), NUM_CANDIDATES, replace=False))
        part = rows.select(drawn)
        nearest = np.zeros((1, len(some_targets)), dtype=np.int64)
        reading = read_dataset(part)
        for name, known in (
            ("with the whole pool", LargerPool(drawn, wording).complete(reading)),
            ("without", reading),
        ):
            counts[name] += len(screen(part, range(NUM_CANDIDATES), nearest, known, some_targets).copies)
    return {"rows": len(pool), "candidates": NUM_CANDIDATES, "targets_of_a_round": NUM_ROUND_TARGETS, **counts}


def count_tool_calls() -> dict[str, Any]:
    """Counts exact copies among picks that differ in calls of tools, or in the tools, alone."""
    question = {"role": "user", "content": "Do the next step of the plan, please."}
    rows = []
    for number in range(NUM_TOOL_ROWS):
        function = {"name": f"step_{number // 2}", "arguments": {"x": number % 2}}
        call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
        rows.append({"messages": [question, call], "tools": [{"type": "function", "function": {"name": f"f{number}"}}]})
    pool = as_dataset([*rows, *rows[: NUM_TOOL_ROWS // 4]])
    screening = screen(pool, range(len(pool)), np.zeros((1, 1), dtype=np.int64), read_dataset(pool), ["What now?"])
    exact = [one for one in screening.duplicates if one.how == "exact"]
    return {"picks": len(pool), "copies": NUM_TOOL_ROWS // 4, "reported_as_exact_copies": len(exact)}


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
        "precision": sum(hits) / len(pairs),
    }


if __name__ == "__main__":
    parts = {
        "found": count_copies,
        "templates": count_false_alarms,
        "rounds": count_in_rounds,
        "tool_calls": count_tool_calls,
    }
    run(parts, RESULTS, __doc__)
