"""Measures selecting again from the same pool: `Selector.select` against `select_rows` on its features.

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.repeated        # about two minutes on one core

Ten selections from one pool of 20,000 rows of 384 numbers, each for other targets. CPU seconds of one thread; both
calls alternate, so that a busy machine slows both. `select_rows` gets the features as an array. The time for reading
`irreducible` and `whole_pool` (the limits, which are measured when they are first read) is measured by itself. Results
are written to `recipes/benchmarks/results/repeated.json`.
"""

from __future__ import annotations

import functools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import datasets
import torch
from torch import Tensor

from itl_hf import Embedder, Selector, select_rows
from itl_hf.text import Row
from recipes.benchmarks.parts import run
from recipes.benchmarks.selection import clustered_rows

RESULTS = Path(__file__).parent / "results" / "repeated.json"
ROWS, DIMENSION, SELECTIONS, PICKS, TARGETS = 20_000, 384, 10, 100, 32
VOCABULARY, WORDS = 3_000, 30


class LookUp(Embedder):
    """Returns the feature row whose number is the second word of a prompt."""

    dimension = DIMENSION
    default_cache = True

    def __init__(self, features: dict[str, Tensor]) -> None:
        self.features = features
        self.weights = str([float(one.sum()) for one in features.values()])

    def fingerprint(self) -> dict[str, Any]:
        """Returns the sum of the features, which stands for weights."""
        return {"embedder": "look up", "weights": self.weights}

    def embed(self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None) -> Tensor:
        """Looks the rows up."""
        places = [row["prompt"].split()[:2] for row in rows]
        return torch.stack([self.features[kind][int(number)] for kind, number in places])


def texts(kind: str, count: int) -> list[dict[str, str]]:
    """Returns rows of random words, each with its number."""
    generator = torch.Generator().manual_seed(len(kind))
    words = torch.randint(VOCABULARY, (count, 2, WORDS), generator=generator).tolist()
    sentences = [[" ".join(f"w{number}" for number in part) for part in pair] for pair in words]
    return [{"prompt": f"{kind} {i} {one}", "completion": two} for i, (one, two) in enumerate(sentences)]


def cpu_seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Returns the CPU seconds of a call, and its result."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


def measure(num_rows: int, kernel: str) -> dict[str, Any]:
    """Returns the CPU seconds of each selection, and their ratios."""
    pool, targets = clustered_rows(num_rows, DIMENSION, TARGETS * SELECTIONS)
    rows = datasets.Dataset.from_list(texts("row", num_rows))
    target_rows = datasets.Dataset.from_list(texts("target", len(targets)))
    selector = Selector(LookUp({"row": pool, "target": targets}), kernel=kernel)
    ours, arrays, limits = [], [], []
    for number in range(SELECTIONS):
        part = range(number, len(targets), SELECTIONS)
        seconds, selection = cpu_seconds(functools.partial(selector.select, rows, target_rows.select(part), PICKS))
        ours.append(seconds)
        arguments = (pool.numpy(), targets[list(part)].numpy(), PICKS)
        seconds, picked = cpu_seconds(functools.partial(select_rows, *arguments, kernel=kernel))
        arrays.append(seconds)
        limits.append(cpu_seconds(functools.partial(getattr, selection, "irreducible"))[0])
        assert selection.indices.tolist() == picked.indices.tolist()
    median = statistics.median(ours[1:])
    return {
        "rows": num_rows,
        "dimension": DIMENSION,
        "targets": TARGETS,
        "picks": PICKS,
        "selections": SELECTIONS,
        "first_select_s": ours[0],
        "later_select_s": median,
        "select_rows_s": statistics.median(arrays),
        "limits_when_read_s": statistics.median(limits),
        "ratio_of_later": median / statistics.median(arrays),
        "ratio_of_first": ours[0] / statistics.median(arrays),
    }


def part(kernel: str) -> Callable[[], dict[str, Any]]:
    """Returns the measurement with this kernel, in a cache of its own."""

    def run_part() -> dict[str, Any]:
        with tempfile.TemporaryDirectory() as folder:
            os.environ |= {"ITL_HF_CACHE": folder, "TQDM_DISABLE": "1"}
            return measure(ROWS, kernel)

    return run_part


if __name__ == "__main__":
    run({kernel: part(kernel) for kernel in ("auto", "linear")}, RESULTS, __doc__)
