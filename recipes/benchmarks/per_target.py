"""How fast a selection for each of many prompts is, against the authors' own Retriever (SIFT).

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.per_target     # some minutes on one core

It needs `pip install --no-deps activeft==0.1.1 faiss-cpu==1.15.1`. 50 picks for each prompt out of 100,000 rows of 384
numbers, 1,000 candidates each. CPU milliseconds a prompt of one thread (process time, so that a busy machine does not
count; its caches still do), medians of rounds in which both take turns.

`ratio` is everything: the Retriever's search of a Faiss index (built beforehand, not counted) and its picks, against
one call of `select_rows_per_target`. `ratio_of_picks` leaves finding the candidates out on both sides. Picks are
compared one by one, in order. Repeats are allowed, since the Retriever knows nothing else. Results go to
`recipes/benchmarks/results/per_target.json`.
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


def unrelated(prompts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and prompts in all directions alike: every candidate is a mediocre one."""
    generator = torch.Generator().manual_seed(0)
    rows, targets = (torch.randn(count, DIMENSION, generator=generator) for count in (ROWS, prompts))
    return torch.nn.functional.normalize(rows), torch.nn.functional.normalize(targets)


def clustered(prompts: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows and prompts around 500 centres, with a spectrum that falls as that of embeddings does."""
    generator = torch.Generator().manual_seed(0)
    centres = 0.7 * torch.randn(500, DIMENSION, generator=generator)
    spectrum = torch.arange(1, DIMENSION + 1).rsqrt()

    def draw(count: int) -> torch.Tensor:
        rows = torch.randn(count, DIMENSION, generator=generator)
        rows += centres[torch.randint(len(centres), (count,), generator=generator)]
        return torch.nn.functional.normalize(rows * spectrum)

    return draw(ROWS), draw(prompts)


POOLS: Mapping[str, Callable[[int], tuple[torch.Tensor, torch.Tensor]]] = {
    "unrelated": unrelated,
    "clustered": clustered,
}


class Clock:
    """CPU milliseconds a prompt of what is measured, by name; a median of rounds."""

    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {}

    def __call__(self, name: str, prompts: int, call: Callable[[], Any]) -> Any:
        """Runs and times a call for so many prompts."""
        start = time.process_time()
        result = call()
        self.times.setdefault(name, []).append(1e3 * (time.process_time() - start) / prompts)
        return result

    def medians(self) -> dict[str, float]:
        """All of them."""
        return {f"{name}_ms": statistics.median(times) for name, times in self.times.items()}


def retriever(pool: torch.Tensor, noise_variance: float) -> Any:
    """The rival, with a flat index."""
    import faiss
    from activeft.sift import Retriever

    index = faiss.IndexFlatIP(DIMENSION)
    index.add(pool.numpy())
    return Retriever(index, llambda=noise_variance)


def answers(rival: Any, prompts: torch.Tensor) -> list[np.ndarray]:
    """The rival's picks, prompt by prompt: given several at once it may return them in another order."""
    return [rival.search(prompt[None].numpy(), N=PICKS, K=CANDIDATES)[1] for prompt in prompts]


def measure(name: str, noise_variance: float, prompts: int, few: int, rounds: int) -> dict[str, Any]:
    """One pool and one lambda: the rival on `few` prompts a round, ours on all of them."""
    pool, targets = POOLS[name](prompts)
    theirs, clock, equal = retriever(pool, noise_variance), Clock(), []
    options = dict(kernel="linear", noise_std=noise_variance**0.5, standardize=False, replace=True)
    ours = functools.partial(select_rows_per_target, pool, targets, PICKS, num_candidates=CANDIDATES, **options)
    for turn in range(rounds):
        asked = range(turn * few, (turn + 1) * few)
        ask = functools.partial(answers, theirs, targets[asked.start : asked.stop])
        picks = clock("activeft", few, ask)
        theirs.only_faiss = True
        clock("activeft_candidates", few, ask)
        theirs.only_faiss = False
        indices = clock("itl_hf", prompts, ours).indices
        equal += [np.array_equal(their, indices[row]) for their, row in zip(picks, asked, strict=True)]
        redone = parts(pool, targets, noise_variance, clock)
    found = clock.medians()
    found["activeft_picks_ms"] = found["activeft_ms"] - found["activeft_candidates_ms"]
    return {
        **found,
        "ratio": found["activeft_ms"] / found["itl_hf_ms"],
        "ratio_of_picks": found["activeft_picks_ms"] / found["itl_hf_picks_ms"],
        "prompts_compared": len(equal),
        "prompts_with_equal_picks": sum(equal),
        "prompts_that_took_float64": redone,
    }


def parts(pool: torch.Tensor, targets: torch.Tensor, noise_variance: float, clock: Clock) -> int:
    """Times our candidates and picks apart; returns how many prompts took float64."""
    rows, anchors = PoolRows(Pool(pool)), targets.double()
    search = functools.partial(nearest, rows, anchors, Linear(), noise_variance, CANDIDATES)
    candidates = clock("itl_hf_candidates", len(targets), search)
    request = PerTargetRequest(Linear(), noise_variance, PICKS, replace=True)
    pick = functools.partial(greedy_per_target, rows, candidates, anchors, request)
    return int(clock("itl_hf_picks", len(targets), pick).num_float64)


def defaults(prompts: int, rounds: int) -> dict[str, Any]:
    """Ours as it comes: no option given. The rival has no such setting."""
    pool, targets = clustered(prompts)
    clock = Clock()
    for _ in range(rounds):
        picked = clock("itl_hf", prompts, lambda: select_rows_per_target(pool, targets, PICKS))
    return {**clock.medians(), "kernel": picked.record.kernel_name, "noise_std": picked.record.noise_std}


def main() -> None:
    """Measures, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=1000, help="ours answers so many at a time")
    parser.add_argument("--rival-prompts", type=int, default=10, help="the rival answers so many in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--output", type=Path, default=RESULTS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {
        "rows": ROWS,
        "dimension": DIMENSION,
        "prompts": asked.prompts,
        "picks": PICKS,
        "candidates": CANDIDATES,
        "rounds": asked.rounds,
        "machine": {
            "threads": 1,
            "cpu": platform.processor() or platform.machine(),
            "torch": torch.__version__,
        },
    }
    for name in POOLS:
        for noise_variance in LAMBDAS:
            key = f"{name}, lambda {noise_variance:g}"
            results[key] = measure(name, noise_variance, asked.prompts, asked.rival_prompts, asked.rounds)
            print(f"{key}: {json.dumps(results[key], indent=2)}", flush=True)
    results["clustered, defaults"] = defaults(asked.prompts, asked.rounds)
    print(f"clustered, defaults: {json.dumps(results['clustered, defaults'], indent=2)}")
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    asked.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
