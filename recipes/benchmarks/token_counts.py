"""Measures what reading a pool takes with and without counts of tokens that an earlier selection left in the store.

    python -m recipes.benchmarks.token_counts      # results/token_counts.json, a few minutes

50,000 short conversations, SmolLM2's tokenizer and chat template, no model pass. CPU seconds of one thread, medians of
three rounds in which the compared variants alternate; the numbers of tokens must be equal.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np

from itl_hf import HiddenStates
from itl_hf.embedding.row_reading import read_dataset
from recipes.benchmarks.parts import run
from recipes.benchmarks.selection import in_turns
from recipes.offline import smollm2

RESULTS = Path(__file__).parent / "results" / "token_counts.json"
NUM_ROWS = 50_000


def conversations(num_rows: int, seed: int = 0) -> datasets.Dataset:
    """Returns short questions with answers, all different."""
    generator = np.random.default_rng(seed)
    rows = []
    for number, (price, pieces) in enumerate(generator.integers(2, 999, (num_rows, 2)).tolist()):
        question = f"Order {number}: a shop sells {pieces} boxes at {price} euros each. How much money does it take?"
        answer = f"{pieces} boxes at {price} euros each are {pieces} * {price} = {pieces * price} euros."
        rows.append([{"role": "user", "content": question}, {"role": "assistant", "content": answer}])
    return datasets.Dataset.from_dict({"messages": rows})


def reading() -> dict[str, Any]:
    """The one reading of the pool's text: without counting, counting all rows, and with all counts in the store."""
    # The tokenizers of transformers take all cores otherwise.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    embedder, pool = HiddenStates(str(smollm2()), layer=1), conversations(NUM_ROWS)
    with tempfile.TemporaryDirectory() as folder:
        read_dataset(pool, embedder, count_tokens=True, counts_folder=Path(folder))
        cpu_seconds, results = in_turns(
            {
                "without_counting": lambda: read_dataset(pool, embedder),
                "counting": lambda: read_dataset(pool, embedder, count_tokens=True),
                "from_store": lambda: read_dataset(pool, embedder, count_tokens=True, counts_folder=Path(folder)),
            }
        )
        (file,) = Path(folder).glob("*.npy")
        num_bytes = file.stat().st_size
    counts, stored_counts = results["counting"].num_tokens, results["from_store"].num_tokens
    if not np.array_equal(counts, stored_counts):
        raise AssertionError("the numbers of tokens differ")
    return {
        "rows": NUM_ROWS,
        "tokens": int(counts.sum()),
        **{f"{name}_s": value for name, value in cpu_seconds.items()},
        "saved_s": cpu_seconds["counting"] - cpu_seconds["from_store"],
        "bytes_per_row": num_bytes / NUM_ROWS,
    }


if __name__ == "__main__":
    run({"reading": reading}, RESULTS, __doc__)
