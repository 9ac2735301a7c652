"""Measures the speed and the memory of exact selection.

    pip install --no-deps activeft==0.1.1
    python -m recipes.benchmarks.selection                 # about ten minutes on one core
    python -m recipes.benchmarks.selection --only baseline # baseline, vtl, plain, kernels, memory, gpu

CPU seconds of one thread (process time, so that a busy machine matters less), medians of three rounds in which the
compared variants alternate. Ratios are of times of the same run. Results are written to
`recipes/benchmarks/results/selection.json`.
"""

from __future__ import annotations

import functools
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from itl_hf import select_rows
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import RBF, Kernel, Linear
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.objectives.itl import ITL
from itl_hf.search.speculative import speculative_greedy
from recipes.benchmarks.parts import run

RESULTS = Path(__file__).parent / "results" / "selection.json"


def clustered_rows(rows: int, dimension: int, targets: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns rows around 50 centres and targets around four of these centres, float32, unit norm."""
    generator = torch.Generator().manual_seed(seed)
    centres = 0.7 * torch.randn(50, dimension, generator=generator)
    pool = torch.randn(rows, dimension, generator=generator)
    pool += centres[torch.randint(50, (rows,), generator=generator)]
    anchors = centres[torch.arange(targets) % 4] + torch.randn(targets, dimension, generator=generator)
    return torch.nn.functional.normalize(pool), torch.nn.functional.normalize(anchors)


def seconds(call: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Returns the median CPU seconds of a call, and its last result."""
    times, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int = 3) -> tuple[dict[str, float], dict[str, Any]]:
    """Returns the median CPU seconds of several calls, and their last results.

    The calls alternate, so that a machine that slows down slows all of them.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, call in calls.items():
            cpu_seconds, results[name] = seconds(call, repeats=1)
            times[name].append(cpu_seconds)
    return {name: statistics.median(cpu_seconds) for name, cpu_seconds in times.items()}, results


class Rows(torch.utils.data.Dataset[torch.Tensor]):
    """The pool as the `Dataset` that activeft needs."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.rows[index]


def baseline() -> dict[str, Any]:
    """Compares ITL and VTL with the authors' own library."""
    return _compare_with_activeft("itl", "vtl")


def vtl() -> dict[str, Any]:
    """Compares VTL alone."""
    return _compare_with_activeft("vtl")


def _compare_with_activeft(*names: str) -> dict[str, Any]:
    """Compares with activeft 0.1.1 with its defaults (tournament above 1,000 rows)."""
    from activeft import ActiveDataLoader
    from activeft.acquisition_functions.itl import ITL as TheirITL
    from activeft.acquisition_functions.vtl import VTL as TheirVTL

    pool, targets = clustered_rows(10_000, 384, 32)
    large, _ = clustered_rows(100_000, 384, 32)
    results: dict[str, Any] = {"rows": 10_000, "dimension": 384, "targets": 32, "picks": 100, "noise_std": 0.1}
    classes = {"itl": TheirITL, "vtl": TheirVTL}
    for name, theirs in [(name, classes[name]) for name in names]:
        options: dict[str, Any] = {"acquisition": name, "kernel": "linear", "standardize": False, "noise_std": 0.1}

        def run(rows: torch.Tensor, kind: Any = theirs) -> Any:
            acquisition = kind(targets, noise_std=0.1)
            return ActiveDataLoader(Rows(rows), batch_size=100, acquisition_function=acquisition).next()

        ours = functools.partial(select_rows, targets=targets, num_examples=100, **options)
        cpu_seconds, _ = in_turns(
            {
                "theirs": functools.partial(run, pool),
                "ours": functools.partial(ours, pool),
                "large": functools.partial(ours, large),
            }
        )
        try:
            run(large[:11_000])
            beyond = "no error"
        except Exception as error:
            beyond = type(error).__name__
        results[name] = {
            "activeft_s": cpu_seconds["theirs"],
            "itl_hf_s": cpu_seconds["ours"],
            "ratio": cpu_seconds["theirs"] / cpu_seconds["ours"],
            "itl_hf_100k_s": cpu_seconds["large"],
            "itl_hf_100k_share_of_activeft_10k": cpu_seconds["large"] / cpu_seconds["theirs"],
            "activeft_at_11k_rows": beyond,
        }
    return results


def plain_float32(pool: Pool, objective: ITL, picks: int) -> list[int]:
    """Runs plain greedy search: one matrix-vector pass over the pool for each pick, float32."""
    rows = (
        pool.block(0, torch.float32) if len(pool.starts) == 1 else torch.cat([b for _, b in pool.blocks(torch.float32)])
    )
    stats, tables = objective.initial_state(rows)
    free, picked_rows = torch.zeros(len(rows)), []
    for _ in range(picks):
        best = int((objective.score(stats, objective.num_observations) + free).argmax())
        picked_rows.append(best)
        free[best] = -torch.inf
        objective.observe(rows[best].double())
        count = objective.num_observations
        step = objective.observations(count - 1, count).to(torch.float32)
        stats = objective.update(stats, objective.project(rows, tables, step), step)
    return picked_rows


def floor(pool: Pool, picks: int, columns: int = 2) -> float:
    """Returns the CPU seconds of the matrix products alone, with `columns` directions per pick, 64 picks at a time."""
    block = pool.block(pool.starts[0], torch.float32)
    directions = torch.randn(64 * columns, block.shape[1])
    cpu_seconds, _ = seconds(lambda: directions @ block.T)
    return cpu_seconds * pool.num_rows / len(block) * picks / 64


def plain() -> dict[str, Any]:
    """Compares with plain greedy search on the same float32 rows, and with the matrix products alone."""
    rows, targets = clustered_rows(60_000, 1024, 32)
    pool = Pool(rows, Standardization("dimensions", unit=True))
    gp = GaussianProcess(Linear(), pool.preparation(targets), 3.0, 3.0)
    for _ in pool.blocks(torch.float32):  # caches the standardized rows for both
        pass
    cpu_seconds, results = in_turns(
        {
            "plain": lambda: plain_float32(pool, ITL(gp), 256),
            "fast": lambda: speculative_greedy(pool, ITL(gp), 256),
            "floor": lambda: floor(pool, 256),
        }
    )
    speculative, plain_picks, least = results["fast"], results["plain"], results["floor"]
    return {
        "rows": 60_000,
        "dimension": 1024,
        "picks": 256,
        "plain_s": cpu_seconds["plain"],
        "speculative_s": cpu_seconds["fast"],
        "floor_s": least,
        "ratio_to_plain": cpu_seconds["plain"] / cpu_seconds["fast"],
        "ratio_to_floor": cpu_seconds["fast"] / least,
        "passes": speculative.passes,
        "equal_picks": sum(a == b for a, b in zip(plain_picks, speculative.indices, strict=True)),
    }


def kernels() -> dict[str, Any]:
    """Compares the search for any kernel with the search for the linear kernel, 100k x 384, 256 picks."""
    rows, targets = clustered_rows(100_000, 384, 32)
    pool = Pool(rows, Standardization("dimensions", unit=True))
    results: dict[str, Any] = {"rows": 100_000, "dimension": 384, "picks": 256}
    choices: dict[str, tuple[Kernel, float]] = {"linear": (Linear(), 3.0), "rbf": (RBF(0.4), 1.0)}
    for name, (kernel, noise_std) in choices.items():
        gp = GaussianProcess(kernel, pool.preparation(targets), noise_std, noise_std)
        cpu_seconds, search = seconds(lambda gp=gp: speculative_greedy(pool, ITL(gp), 256))  # type: ignore[misc]
        results[name] = {"s": cpu_seconds, "passes": search.passes}
    results["rbf_to_linear"] = results["rbf"]["s"] / results["linear"]["s"]
    return results


MEASURE = """
import sys, time, numpy, torch
torch.set_num_threads(1)
from itl_hf import select_rows
def peak():  # getrusage would also count the parent process
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
before = peak()
pool = numpy.load(sys.argv[1], mmap_mode="r")
targets = numpy.load(sys.argv[2])
start = time.process_time()
picked = select_rows(pool, targets, 256, kernel="linear")
print(before, peak(), time.process_time() - start)
"""


def memory(rows: int = 1_000_000, dimension: int = 1024) -> dict[str, Any]:
    """Measures the peak resident memory for a float16 pool on disk, above that of the interpreter with torch."""
    with tempfile.TemporaryDirectory() as folder:
        path, anchors = Path(folder) / "pool.npy", Path(folder) / "targets.npy"
        memory_map = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, dimension))
        for start in range(0, rows, 50_000):
            memory_map[start : start + 50_000] = (
                clustered_rows(min(50_000, rows - start), dimension, 4, start)[0].half().numpy()
            )
        np.save(anchors, clustered_rows(4, dimension, 32)[1].numpy())
        del memory_map
        command = [sys.executable, "-c", MEASURE, str(path), str(anchors)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        size = path.stat().st_size
    before, peak, cpu_seconds = (float(number) for number in output)
    return {
        "rows": rows,
        "dimension": dimension,
        "picks": 256,
        "file_gib": size / 2**30,
        "peak_above_interpreter_gib": (peak - before) / 2**30,
        "cpu_s": cpu_seconds,
    }


def gpu() -> dict[str, Any]:
    """Measures a thousand picks from 1M x 1024 and 10M x 1024 float16 on a GPU, if there is one."""
    if not torch.cuda.is_available():
        return {"device": "none: not measured"}
    results: dict[str, Any] = {"device": torch.cuda.get_device_name()}
    for rows, dtype in ((1_000_000, torch.float32), (10_000_000, torch.float16)):
        generator = torch.Generator("cuda").manual_seed(0)
        pool = torch.cat(
            [torch.randn(100_000, 1024, device="cuda", generator=generator).to(dtype) for _ in range(rows // 100_000)]
        )
        targets = torch.randn(32, 1024, device="cuda", generator=generator)
        select_rows(pool[:100_000], targets, 100, kernel="linear")  # warm-up
        torch.cuda.synchronize()
        start = time.perf_counter()
        select_rows(pool, targets, 1000, kernel="linear")
        torch.cuda.synchronize()
        results[f"{rows} rows {dtype}"] = {"s": time.perf_counter() - start}
        del pool
    return results


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "baseline": baseline,
    "vtl": vtl,
    "plain": plain,
    "kernels": kernels,
    "memory": memory,
    "gpu": gpu,
}


if __name__ == "__main__":
    run(PARTS, RESULTS, __doc__)
