"""Measures the speed of selecting for each of many prompts, against the authors' own Retriever (SIFT).

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.per_target     # some minutes on one core

It needs `pip install --no-deps activeft==0.1.1 faiss-cpu==1.15.1`. 50 picks for each prompt out of 100,000 rows of 384
numbers, 1,000 candidates each. CPU milliseconds per prompt of one thread (process time, so that a busy machine does not
count, but shared caches still do), medians of rounds in which both alternate.

`ratio` compares the whole job: the Retriever's search of a Faiss index (built beforehand, not counted) and its picks,
against one call of `select_rows_per_target`. `ratio_of_picks` excludes the search for candidates on both sides. Picks
are compared one by one, in order. Rows may be picked repeatedly, since the Retriever has no other mode. Results are
written to `recipes/benchmarks/results/per_target.json`.
"""

from __future__ import annotations

import argparse
import functools
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itl_hf.gp.kernels import Linear
from itl_hf.gp.pool import Pool
from itl_hf.search.nearest_rows import PoolRows, nearest
from itl_hf.search.per_target import PerTargetRequest, greedy_per_target
from itl_hf.selection.per_target import select_rows_per_target

RESULTS = Path(__file__).parent / "results" / "per_target.json"
ROWS, DIMENSION, PICKS, CANDIDATES = 100_000, 384, 50, 1_000
#: SIFT's lambda is the noise variance; 0.01 is the Retriever's default, and the paper uses 0.01 to 0.2.
LAMBDAS = (0.01, 0.1)


def make_unrelated(prompts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows and prompts drawn uniformly from all directions, so that no candidate is close to a prompt."""
    generator = torch.Generator().manual_seed(0)
    rows, targets = (torch.randn(count, DIMENSION, generator=generator) for count in (ROWS, prompts))
    return torch.nn.functional.normalize(rows), torch.nn.functional.normalize(targets)


def make_clustered(prompts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows and prompts around 500 centres, with a decaying spectrum like that of embeddings."""
    generator = torch.Generator().manual_seed(0)
    centres = 0.7 * torch.randn(500, DIMENSION, generator=generator)
    spectrum = torch.arange(1, DIMENSION + 1).rsqrt()

    def draw(count: int) -> torch.Tensor:
        rows = torch.randn(count, DIMENSION, generator=generator)
        rows += centres[torch.randint(len(centres), (count,), generator=generator)]
        return torch.nn.functional.normalize(rows * spectrum)

    return draw(ROWS), draw(prompts)


POOLS: Mapping[str, Callable[[int], tuple[torch.Tensor, torch.Tensor]]] = {
    "unrelated": make_unrelated,
    "clustered": make_clustered,
}


class Clock:
    """Measures CPU milliseconds per prompt, by name; reports medians over rounds."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def __call__(self, name: str, prompts: int, call: Callable[[], Any]) -> Any:
        """Runs and times a call that handles `prompts` prompts."""
        start = time.process_time()
        result = call()
        self.times.setdefault(name, []).append(1e3 * (time.process_time() - start) / prompts)
        return result

    def medians(self) -> dict[str, float]:
        """Returns the medians of all names."""
        return {f"{name}_ms": statistics.median(times) for name, times in self.times.items()}


def retriever(pool: torch.Tensor, noise_variance: float) -> Any:
    """Returns the baseline, activeft's Retriever, with a flat index."""
    import faiss
    from activeft.sift import Retriever

    index = faiss.IndexFlatIP(DIMENSION)
    index.add(pool.numpy())
    return Retriever(index, llambda=noise_variance)


def answers(baseline: Any, prompts: torch.Tensor) -> list[np.ndarray]:
    """Returns the baseline's picks. It gets one prompt at a time, since it may return several in another order."""
    return [baseline.search(prompt[None].numpy(), N=PICKS, K=CANDIDATES)[1] for prompt in prompts]


def measure(name: str, noise_variance: float, prompts: int, num_baseline_prompts: int, rounds: int) -> dict[str, Any]:
    """Measures one pool and one lambda: the baseline on a few prompts per round, ours on all of them."""
    pool, targets = POOLS[name](prompts)
    theirs, clock, equal = retriever(pool, noise_variance), Clock(), []
    options = dict(kernel="linear", noise_std=noise_variance**0.5, standardize=False, replace=True)
    ours = functools.partial(select_rows_per_target, pool, targets, PICKS, num_candidates=CANDIDATES, **options)
    for turn in range(rounds):
        prompt_rows = range(turn * num_baseline_prompts, (turn + 1) * num_baseline_prompts)
        ask = functools.partial(answers, theirs, targets[prompt_rows.start : prompt_rows.stop])
        picks = clock("activeft", num_baseline_prompts, ask)
        theirs.only_faiss = True
        clock("activeft_candidates", num_baseline_prompts, ask)
        theirs.only_faiss = False
        indices = clock("itl_hf", prompts, ours).indices
        equal += [np.array_equal(their, indices[row]) for their, row in zip(picks, prompt_rows, strict=True)]
        redone = parts(pool, targets, noise_variance, clock)
    medians = clock.medians()
    medians["activeft_picks_ms"] = medians["activeft_ms"] - medians["activeft_candidates_ms"]
    return {
        **medians,
        "ratio": medians["activeft_ms"] / medians["itl_hf_ms"],
        "ratio_of_picks": medians["activeft_picks_ms"] / medians["itl_hf_picks_ms"],
        "prompts_compared": len(equal),
        "prompts_with_equal_picks": sum(equal),
        "prompts_that_took_float64": redone,
    }


def parts(pool: torch.Tensor, targets: torch.Tensor, noise_variance: float, clock: Clock) -> int:
    """Times our search for candidates and our picks separately. Returns how many prompts needed float64."""
    rows, anchors = PoolRows(Pool(pool)), targets.double()
    search = functools.partial(nearest, rows, anchors, Linear(), noise_variance, CANDIDATES)
    candidates = clock("itl_hf_candidates", len(targets), search)
    request = PerTargetRequest(Linear(), noise_variance, PICKS, replace=True)
    pick = functools.partial(greedy_per_target, rows, candidates, anchors, request)
    return int(clock("itl_hf_picks", len(targets), pick).num_float64)


def defaults(prompts: int, rounds: int) -> dict[str, Any]:
    """Measures ours with the default options, which the baseline does not have."""
    pool, targets = make_clustered(prompts)
    clock = Clock()
    for _ in range(rounds):
        selection = clock("itl_hf", prompts, lambda: select_rows_per_target(pool, targets, PICKS))
    return {**clock.medians(), "kernel": selection.record.kernel_name, "noise_std": selection.record.noise_std}


def main() -> None:
    """Measures, prints the results and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1000, help="prompts per call for ours")
    parser.add_argument("--baseline-prompts", type=int, default=10, help="prompts per round for the baseline")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {
        "rows": ROWS,
        "dimension": DIMENSION,
        "prompts": options.prompts,
        "picks": PICKS,
        "candidates": CANDIDATES,
        "rounds": options.rounds,
        "machine": {
            "threads": 1,
            "cpu": platform.processor() or platform.machine(),
            "torch": torch.__version__,
        },
    }
    for name in POOLS:
        for noise_variance in LAMBDAS:
            key = f"{name}, lambda {noise_variance:g}"
            results[key] = measure(name, noise_variance, options.prompts, options.baseline_prompts, options.rounds)
            print(f"{key}: {json.dumps(results[key], indent=2)}", flush=True)
    results["clustered, defaults"] = defaults(options.prompts, options.rounds)
    print(f"clustered, defaults: {json.dumps(results['clustered, defaults'], indent=2)}")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
