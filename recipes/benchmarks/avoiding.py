"""Measures what `avoid=` does to the picks: how many are of the tasks that were to be learned, and to be avoided.

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.avoiding     # two minutes on an idle core; results/avoiding.json

A pool of generated tasks and small talk, embedded by all-MiniLM-L6-v2, and three cases of eight prompts for each task:
*another task among the targets* is to be avoided (a benchmark that must not be trained on slipped into the target set);
*a neighbouring task* of the pool is to be avoided, which shares words with the targets; *the same task* is both wanted
and avoided, with different prompts. The tasks of rows are used to count picks alone.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from itl_hf import ITL, Avoid, embed, select_rows
from recipes.benchmarks.pools import embedder
from recipes.offline import reasoning_pool, reasoning_rows

RESULTS = Path(__file__).parent / "results" / "avoiding.json"
ROWS_PER_TASK, NUM_PROMPTS, NUM_PICKS, SEEDS = 16, 8, 32, (0, 1, 2)
WEIGHTS = (0.0, 0.25, 0.5, 1.0, 2.0)
#: Case: tasks of the targets, task to avoid.
CASES = {
    "another task among the targets": (("letter_counting", "gcd"), "gcd"),
    "a neighbouring task": (("lcm",), "gcd"),
    "the same task": (("gcd",), "gcd"),
}


def measure() -> list[dict[str, Any]]:
    """Returns one entry for each case and weight: mean shares of the picks over the seeds."""
    pool = reasoning_pool(ROWS_PER_TASK)
    tasks, encoder = np.array(pool["task"]), embedder("minilm")
    features = embed(pool, encoder)
    counts = {
        task: NUM_PROMPTS * len(SEEDS) * 2 for _, (wanted, avoided) in CASES.items() for task in (*wanted, avoided)
    }
    known_prompts = {row[0]["content"] for row in pool["prompt"]}
    prompts = reasoning_rows(counts, seed=1, exclude=known_prompts)
    prompt_tasks = np.array([row["task"] for row in prompts])
    prompt_features = embed(Dataset.from_list([{"prompt": row["prompt"]} for row in prompts]), encoder)
    entries = []
    for case, (wanted, avoided) in CASES.items():
        for weight in WEIGHTS:
            shares = []
            for seed in SEEDS:
                targets = np.concatenate([_rows(prompt_tasks, task, 2 * seed) for task in wanted])
                avoid = Avoid(prompt_features[_rows(prompt_tasks, avoided, 2 * seed + 1)], weight)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    picks = select_rows(
                        features, prompt_features[targets], NUM_PICKS, acquisition=ITL(avoid=avoid), shortlist=None
                    ).indices
                others = [task for task in wanted if task != avoided]
                shares.append([np.isin(tasks[picks], others).mean(), (tasks[picks] == avoided).mean()])
            kept, lost = np.mean(shares, axis=0).round(3).tolist()
            entries.append({"case": case, "weight": weight, "of_other_targets": kept, "of_avoided": lost})
    return entries


def _rows(tasks: np.ndarray, task: str, part: int) -> np.ndarray:
    rows: np.ndarray = np.flatnonzero(tasks == task)[part * NUM_PROMPTS : (part + 1) * NUM_PROMPTS]
    return rows


def main() -> None:
    """Measures and writes the results."""
    entries = measure()
    settings = {"rows_per_task": ROWS_PER_TASK, "prompts": NUM_PROMPTS, "picks": NUM_PICKS, "seeds": list(SEEDS)}
    RESULTS.write_text(json.dumps({"settings": settings, "results": entries}, indent=2) + "\n", encoding="utf-8")
    for entry in entries:
        print(json.dumps(entry))


if __name__ == "__main__":
    main()
