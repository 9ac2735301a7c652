"""How fast exact selection is, and how much memory it takes.

    pip install --no-deps activeft==0.1.1
    python -m recipes.benchmarks.selection                 # about ten minutes on one core
    python -m recipes.benchmarks.selection --only rival    # rival, plain, kernels, memory, gpu

CPU seconds of one thread (process time, so that a busy machine counts less), medians of three rounds in which what is
compared takes turns. Ratios are taken within this run; results go to `recipes/benchmarks/results/selection.json`.
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


def clustered(rows: int, dimension: int, targets: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows around 50 centres and targets around four of them, float32, unit norm."""
    generator = torch.Generator().manual_seed(seed)
    centres = 0.7 * torch.randn(50, dimension, generator=generator)
    pool = torch.randn(rows, dimension, generator=generator)
    pool += centres[torch.randint(50, (rows,), generator=generator)]
    anchors = centres[torch.arange(targets) % 4] + torch.randn(targets, dimension, generator=generator)
    return torch.nn.functional.normalize(pool), torch.nn.functional.normalize(anchors)


def seconds(call: Callable[[], Any], repeats: int = 3) -> tuple[float, Any]:
    """Median CPU seconds of a call, and what it returned last."""
    times, result = [], None
    for _ in range(repeats):
        start = time.process_time()
        result = call()
        times.append(time.process_time() - start)
    return statistics.median(times), result


def in_turns(calls: Mapping[str, Callable[[], Any]], rounds: int = 3) -> tuple[dict[str, float], dict[str, Any]]:
    """Median CPU seconds of several calls that take turns, so that a machine that slows down slows all of them; and
    what each returned last.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    results: dict[str, Any] = {}
    for _ in range(rounds):
        for name, call in calls.items():
            spent, results[name] = seconds(call, repeats=1)
            times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}, results


class Rows(torch.utils.data.Dataset[torch.Tensor]):
    """The pool as the rival wants it."""

    def __init__(self, rows: torch.Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> torch.Tensor:
        return self.rows[index]


def rival() -> dict[str, Any]:
    """The authors' own library, activeft 0.1.1, with its defaults (tournament above 1,000 rows)."""
    from activeft import ActiveDataLoader
    from activeft.acquisition_functions.itl import ITL as TheirITL
    from activeft.acquisition_functions.vtl import VTL as TheirVTL

    pool, targets = clustered(10_000, 384, 32)
    large, _ = clustered(100_000, 384, 32)
    found: dict[str, Any] = {"rows": 10_000, "dimension": 384, "targets": 32, "picks": 100, "noise_std": 0.1}
    for name, theirs in {"itl": TheirITL, "vtl": TheirVTL}.items():
        options: dict[str, Any] = {"acquisition": name, "kernel": "linear", "standardize": False, "noise_std": 0.1}

        def run(rows: torch.Tensor, kind: Any = theirs) -> Any:
            acquisition = kind(targets, noise_std=0.1)
            return ActiveDataLoader(Rows(rows), batch_size=100, acquisition_function=acquisition).next()

        ours = functools.partial(select_rows, targets=targets, num_examples=100, **options)
        spent, _ = in_turns(
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
        found[name] = {
            "activeft_s": spent["theirs"],
            "itl_hf_s": spent["ours"],
            "ratio": spent["theirs"] / spent["ours"],
            "itl_hf_100k_s": spent["large"],
            "itl_hf_100k_share_of_activeft_10k": spent["large"] / spent["theirs"],
            "activeft_at_11k_rows": beyond,
        }
    return found


def plain_float32(pool: Pool, objective: ITL, picks: int) -> list[int]:
    """Greedy as one would write it: one matrix-vector pass over the pool for each pick, float32."""
    rows = (
        pool.block(0, torch.float32) if len(pool.starts) == 1 else torch.cat([b for _, b in pool.blocks(torch.float32)])
    )
    stats, tables = objective.initial_state(rows)
    free, chosen = torch.zeros(len(rows)), []
    for _ in range(picks):
        best = int((objective.score(stats, objective.num_observations) + free).argmax())
        chosen.append(best)
        free[best] = -torch.inf
        objective.observe(rows[best].double())
        count = objective.num_observations
        step = objective.observations(count - 1, count).to(torch.float32)
        stats = objective.update(stats, objective.project(rows, tables, step), step)
    return chosen


def floor(pool: Pool, picks: int, columns: int = 2) -> float:
    """CPU seconds of the matrix products alone: every row with `columns` directions a pick, in blocks of 64 picks."""
    block = pool.block(pool.starts[0], torch.float32)
    directions = torch.randn(64 * columns, block.shape[1])
    spent, _ = seconds(lambda: directions @ block.T)
    return spent * pool.num_rows / len(block) * picks / 64


def plain() -> dict[str, Any]:
    """Against plain greedy on the same prepared float32 rows, and against the floor of matrix products."""
    rows, targets = clustered(60_000, 1024, 32)
    pool = Pool(rows, Standardization("dimensions", unit=True))
    gp = GaussianProcess(Linear(), pool.preparation(targets), 3.0, 3.0)
    for _ in pool.blocks(torch.float32):  # both find their rows prepared
        pass
    spent, found = in_turns(
        {
            "plain": lambda: plain_float32(pool, ITL(gp), 256),
            "fast": lambda: speculative_greedy(pool, ITL(gp), 256),
            "floor": lambda: floor(pool, 256),
        }
    )
    picked, plain_picks, least = found["fast"], found["plain"], found["floor"]
    return {
        "rows": 60_000,
        "dimension": 1024,
        "picks": 256,
        "plain_s": spent["plain"],
        "speculative_s": spent["fast"],
        "floor_s": least,
        "ratio_to_plain": spent["plain"] / spent["fast"],
        "ratio_to_floor": spent["fast"] / least,
        "passes": picked.passes,
        "equal_picks": sum(a == b for a, b in zip(plain_picks, picked.indices, strict=True)),
    }


def kernels() -> dict[str, Any]:
    """The function-space path against the linear one, 100k x 384, 256 picks."""
    rows, targets = clustered(100_000, 384, 32)
    pool = Pool(rows, Standardization("dimensions", unit=True))
    found: dict[str, Any] = {"rows": 100_000, "dimension": 384, "picks": 256}
    choices: dict[str, tuple[Kernel, float]] = {"linear": (Linear(), 3.0), "rbf": (RBF(0.4), 1.0)}
    for name, (kernel, noise_std) in choices.items():
        gp = GaussianProcess(kernel, pool.preparation(targets), noise_std, noise_std)
        spent, picked = seconds(lambda gp=gp: speculative_greedy(pool, ITL(gp), 256))  # type: ignore[misc]
        found[name] = {"s": spent, "passes": picked.passes}
    found["rbf_to_linear"] = found["rbf"]["s"] / found["linear"]["s"]
    return found


MEASURE = """
import sys, time, numpy, torch
torch.set_num_threads(1)
from itl_hf import select_rows
def peak():  # of this program alone; getrusage would also count the process it was started from
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
before = peak()
pool = numpy.load(sys.argv[1], mmap_mode="r")
targets = numpy.load(sys.argv[2])
start = time.process_time()
picked = select_rows(pool, targets, 256, kernel="linear")
print(before, peak(), time.process_time() - start)
"""


def memory(rows: int = 1_000_000, dimension: int = 1024) -> dict[str, Any]:
    """A float16 pool on disk, larger than the memory it may take: peak resident memory above the interpreter with
    torch.
    """
    with tempfile.TemporaryDirectory() as folder:
        path, anchors = Path(folder) / "pool.npy", Path(folder) / "targets.npy"
        stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(rows, dimension))
        for start in range(0, rows, 50_000):
            stored[start : start + 50_000] = clustered(min(50_000, rows - start), dimension, 4, start)[0].half().numpy()
        np.save(anchors, clustered(4, dimension, 32)[1].numpy())
        del stored
        command = [sys.executable, "-c", MEASURE, str(path), str(anchors)]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        size = path.stat().st_size
    before, peak, spent = (float(number) for number in output)
    return {
        "rows": rows,
        "dimension": dimension,
        "picks": 256,
        "file_gib": size / 2**30,
        "peak_above_interpreter_gib": (peak - before) / 2**30,
        "cpu_s": spent,
    }


def gpu() -> dict[str, Any]:
    """On a GPU: 1M x 1024 and 10M x 1024 float16, a thousand picks; says so where there is none."""
    if not torch.cuda.is_available():
        return {"device": "none: not measured"}
    found: dict[str, Any] = {"device": torch.cuda.get_device_name()}
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
        found[f"{rows} rows {dtype}"] = {"s": time.perf_counter() - start}
        del pool
    return found


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "rival": rival,
    "plain": plain,
    "kernels": kernels,
    "memory": memory,
    "gpu": gpu,
}


if __name__ == "__main__":
    run(PARTS, RESULTS, __doc__)
