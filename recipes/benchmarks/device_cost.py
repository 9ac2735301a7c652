"""Counts what a selection asks of a device and of the network, and estimates from it the time on a GPU.

    python -m recipes.benchmarks.device_cost                        # counts, traffic, estimate, measure
    python -m recipes.benchmarks.device_cost --only counts --label before --package ../before
    python -m recipes.benchmarks.device_cost --only measure         # on a machine with a GPU

`counts` runs `select_rows` on a pretend device (`tests/pretend_device.py`), in CPU memory: how often the host waits for
the device (reads of numbers, and copies to it that wait), operations started and copies to the device, by pick.
`traffic` runs 1, 2, 8 and 16 gloo processes and counts collectives and the bytes that one process passes to them.
`estimate` computes 1M x 1024, a thousand picks, on an H200 from counts at 8,192 x 1024, which grow linearly with picks
and blocks, and from the figures in `H200`; it is no measurement. `measure` measures that case if there is a GPU.
`--package` takes `itl_hf` from another checkout, such as `git worktree add ../before a91bd13`. Results:
`results/device_cost.json`, by label, and the tables in `device_cost.md`.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import itertools
import json
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from tests import pretend_device
from tests.worlds import world

RESULTS = Path(__file__).parent / "results" / "device_cost.json"
#: Writes what a part has found so far.
Keep = Callable[[], None]
#: Counted cases, 6,000 x 64 rows in four blocks, 256 picks.
CASES: dict[str, dict[str, Any]] = {
    "linear": {"kernel": "linear"},
    "rbf": {"kernel": "rbf"},
    "linear, limits": {"kernel": "linear", "is_limited": True},
    "rbf, limits": {"kernel": "rbf", "is_limited": True},
}
SIZES = (1, 2, 8, 16)
#: Assumed of an H200: bytes and float32 operations a second that are reached in practice, seconds that the host takes
#: to start an operation from Python and to wait for the device once.
H200 = {"bytes_per_s": 4.0e12, "flop_per_s": 45e12, "launch_s": 5e-6, "wait_s": 20e-6}
ROWS, DIMENSION, TARGETS, PICKS, RUN = 1_000_000, 1024, 32, 1000, 64


def rows_and_targets(rows: int, dimension: int, targets: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns random rows and targets near the first of them, float32."""
    pool = torch.randn(rows, dimension, generator=torch.Generator().manual_seed(0))
    return pool, pool[:targets] + 0.1


def constraints(num_rows: int, num_picks: int) -> Any:
    """Returns limits that bind: three groups of half the picks each at most, and a budget of costs."""
    from itl_hf import SelectionConstraints

    return SelectionConstraints(
        groups=[n % 3 for n in range(num_rows)],
        group_shares=0.5,
        costs=[1.0 + n % 4 for n in range(num_rows)],
        token_budget=2.4 * num_picks,
    )


def count(
    rows: int, dimension: int, targets: int, picks: int, kernel: str, block_rows: int, is_limited: bool = False
) -> dict[str, float]:
    """Counts waits, operations and copies of one selection on the pretend device."""
    from itl_hf import select_rows

    pool_module: Any = importlib.import_module("itl_hf.gp.pool")
    verification: Any = importlib.import_module("itl_hf.search.verification")
    pool, near = rows_and_targets(rows, dimension, targets)
    options: dict[str, Any] = {"constraints": constraints(rows, picks)} if is_limited else {}
    passes: list[int] = []
    verify_all = verification.PoolVerifier._pass

    def counted_pass(*arguments: Any) -> Any:
        passes.append(1)
        return verify_all(*arguments)

    saved, pool_module.BLOCK_ROWS = pool_module.BLOCK_ROWS, block_rows
    verification.PoolVerifier._pass = counted_pass
    try:
        with warnings.catch_warnings(action="ignore"), pretend_device.pretend(counts_launches=True):
            device_pool, device_targets = pretend_device.put(pool), pretend_device.put(near)
            selection = select_rows(device_pool, device_targets, picks, kernel=kernel, **options)
    finally:
        pool_module.BLOCK_ROWS, verification.PoolVerifier._pass = saved, verify_all
    totals = {
        "waits": pretend_device.SYNCS,
        "copies": pretend_device.COPIES,
        "copies_that_wait": pretend_device.BLOCKING_COPIES,
        "launches": pretend_device.LAUNCHES,
    }
    counted = {name: float(sum(counter.values())) for name, counter in totals.items()}
    return {"picks": float(len(selection.indices)), "passes": float(len(passes)), **counted}


def counts(results: dict[str, Any], keep: Keep) -> None:
    """Counts every case, all of `select_rows` included."""
    for name, options in CASES.items():
        counted = count(6000, 64, 8, 256, block_rows=1500, **options)
        per_pick = {key: round(value / counted["picks"], 3) for key, value in counted.items() if key != "picks"}
        results[name] = {"picks": counted["picks"], "passes": counted["passes"], "per_pick": per_pick}
        keep()


def traffic(results: dict[str, Any], keep: Keep) -> None:
    """Counts collectives and bytes of process 0, by pick, for pools of two sizes; picks are equal throughout."""
    picks = 64
    for rows, size in itertools.product((3_200, 12_800), SIZES):
        name, path = f"{rows:,} rows, {size} processes", RESULTS.with_suffix(f".{rows}-{size}.tmp")
        if name in results:  # of an earlier run that was ended
            continue
        call = functools.partial(_traffic_of, rows=rows, picks=picks, path=path)
        codes = world(size, call, limit=1800.0)
        assert codes == [0] * size, codes
        results[name] = json.loads(path.read_text())
        path.unlink()
        others = [one["checksum"] for other, one in results.items() if other.startswith(f"{rows:,} rows")]
        assert len(set(others)) == 1, "picks differ between numbers of processes"
        keep()


def _traffic_of(rank: int, rows: int, picks: int, path: Path) -> None:
    """What each process does: selects the rows of one pool, and counts."""
    from itl_hf import select_rows

    torch.set_num_threads(1)
    verification: Any = importlib.import_module("itl_hf.search.verification")
    pool_module: Any = importlib.import_module("itl_hf.gp.pool")
    pool_module.BLOCK_ROWS = 100
    dist.init_process_group("gloo")
    calls: dict[str, list[int]] = {}
    phase = ["before the first pass"]
    with_passes, initialize = verification.PoolVerifier.verify, verification.PoolVerifier.initialize

    def start(*arguments: Any) -> Any:
        result = initialize(*arguments)
        phase[0] = "search"
        return result

    verification.PoolVerifier.initialize = start
    for name in ("all_gather", "all_reduce", "broadcast"):
        setattr(dist, name, _counting(getattr(dist, name), calls, phase))
    rounds: list[int] = []

    def counted_run(*arguments: Any) -> Any:
        rounds.append(1)
        return with_passes(*arguments)

    verification.PoolVerifier.verify = counted_run
    pool, near = rows_and_targets(rows, 16, 4)
    selection = select_rows(pool.numpy(), near.numpy(), picks, kernel="linear")
    if rank == 0:
        search = calls.get("search", [])
        figures = {
            "collectives_per_pick": len(search) / picks,
            "bytes_per_pick": sum(search) / picks,
            "runs": len(rounds),
            "collectives_before": len(calls.get("before the first pass", [])),
            "bytes_before": sum(calls.get("before the first pass", [])),
            "checksum": int((selection.indices * range(1, picks + 1)).sum()),
        }
        path.write_text(json.dumps(figures))
    dist.destroy_process_group()


def _counting(function: Callable[..., Any], calls: dict[str, list[int]], phase: list[str]) -> Callable[..., Any]:
    """Wraps a collective so that the bytes of the tensor that this process passes to it are kept."""

    def counted(*arguments: Any, **options: Any) -> Any:
        own = next(each for each in reversed(arguments) if isinstance(each, torch.Tensor))
        calls.setdefault(phase[0], []).append(own.numel() * own.element_size())
        return function(*arguments, **options)

    return counted


def extrapolate(blocks: int) -> dict[str, float]:
    """Returns the counts of `PICKS` picks from so many blocks, from those of 64 and 192 picks from 2 and 8 blocks."""
    of_blocks = []
    for num_blocks in (2, 8):
        few, many = (count(8192, DIMENSION, TARGETS, picks, "linear", 8192 // num_blocks) for picks in (64, 192))
        print(num_blocks, few, many, flush=True)
        of_blocks.append({key: many[key] + (many[key] - few[key]) / 128 * (PICKS - 192) for key in many})
    two, eight = of_blocks
    return {key: two[key] + (eight[key] - two[key]) / 6 * (blocks - 2) for key in two if key != "passes"} | {
        "passes": two["passes"]
    }


def estimate(results: dict[str, Any], keep: Keep) -> None:
    """Computes the seconds of 1M x 1024, a thousand picks, linear kernel."""
    counted = extrapolate(-(-ROWS // 8192))
    launches, waits = counted["launches"], counted["waits"] + counted["copies_that_wait"]
    passes = max(counted["passes"], PICKS / RUN)
    block_bytes, numbers = 4 * ROWS * DIMENSION, 2 * RUN * ROWS
    # Reading, preparing and storing the rows; then, for each pass, reading them and handling the projections ten times.
    device_bytes = 6 * block_bytes + passes * (block_bytes + 10 * 4 * numbers)
    # Of every pick: the candidates' rows twice, and all directions before it twice, under two posteriors, float64.
    device_bytes += PICKS * 8 * DIMENSION * (2 * 512 + 4 * (PICKS / 2 + TARGETS))
    flop = passes * 2 * ROWS * RUN * (DIMENSION + TARGETS + RUN)
    seconds = {
        "starting operations": launches * H200["launch_s"],
        "waiting": waits * H200["wait_s"],
        "memory": device_bytes / H200["bytes_per_s"],
        "matrix products": flop / H200["flop_per_s"],
    }
    results |= {
        "what": "an estimate from counts, not a measurement",
        "rows": ROWS,
        "dimension": DIMENSION,
        "picks": PICKS,
        "assumed": H200,
        "operations": {"launches": launches, "waits": waits, "passes": passes, "bytes": device_bytes, "flop": flop},
        "seconds": seconds,
        "seconds_in_all": sum(seconds.values()),
    }


def measure(results: dict[str, Any], keep: Keep) -> None:
    """Measures the case of `estimate` on a GPU, with the waits that CUDA reports; says so if there is none."""
    if not torch.cuda.is_available():
        results["device"] = "none: there is no GPU on this machine, so nothing was measured"
        return
    from itl_hf import select_rows

    generator = torch.Generator("cuda").manual_seed(0)
    pool = torch.randn(ROWS, DIMENSION, device="cuda", generator=generator)
    targets = pool[:TARGETS] + 0.1
    select_rows(pool[:100_000], targets, 100, kernel="linear")  # warm-up
    times = []
    for _ in range(3):
        torch.cuda.synchronize()
        start = time.perf_counter()
        select_rows(pool, targets, PICKS, kernel="linear")
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    torch.cuda.set_sync_debug_mode("warn")
    with warnings.catch_warnings(record=True, action="always") as caught:
        select_rows(pool, targets, PICKS, kernel="linear")
    torch.cuda.set_sync_debug_mode("default")
    waits = sum("called a synchronizing" in str(one.message) for one in caught)
    results |= {"device": torch.cuda.get_device_name(), "seconds": times, "waits_per_pick": waits / PICKS}


PARTS: dict[str, Callable[[dict[str, Any], Keep], None]] = {
    "counts": counts,
    "traffic": traffic,
    "estimate": estimate,
    "measure": measure,
}


def table(results: dict[str, Any]) -> Iterator[str]:
    """Yields the lines of `device_cost.md`."""
    yield "# What a selection asks of a device and of the network\n"
    yield "Written by `python -m recipes.benchmarks.device_cost`; what was counted and how: its first lines.\n"
    yield "## For each pick, 6,000 x 64, 256 picks, all of `select_rows` included\n"
    yield "| case | | waits | copies to the device that wait | all copies to it | operations started | passes |"
    yield "|---|---|---|---|---|---|---|"
    for case in CASES:
        for label in sorted(results, key=lambda name: name != "before"):
            if case in results[label].get("counts", {}):
                one = results[label]["counts"][case]
                numbers = [one["per_pick"][key] for key in ("waits", "copies_that_wait", "copies", "launches")]
                yield f"| {case} | {label} | {' | '.join(f'{n:.2f}' for n in numbers)} | {one['passes']:.0f} |"
    yield "\n## Collectives and bytes of one process for each of 64 picks, gloo\n"
    yield "| pool | | collectives | bytes | collectives and bytes before the first run |"
    yield "|---|---|---|---|---|"
    for label in sorted(results, key=lambda name: name != "before"):
        for case, one in results[label].get("traffic", {}).items():
            per_pick = f"{one['collectives_per_pick']:.2f} | {one['bytes_per_pick']:,.0f}"
            yield f"| {case} | {label} | {per_pick} | {one['collectives_before']}, {one['bytes_before']:,} |"
    yield "\n## Estimate, not measured: 1M x 1024, 1,000 picks, linear kernel, H200\n"
    yield "| | starting operations | waiting | memory | matrix products | in all |"
    yield "|---|---|---|---|---|---|"
    for label in sorted(results, key=lambda name: name != "before"):
        if "estimate" in results[label]:
            one = results[label]["estimate"]
            yield f"| {label} | {' | '.join(f'{s:.3f} s' for s in (*one['seconds'].values(), one['seconds_in_all']))} |"
    for label, parts in results.items():
        if "measure" in parts:
            yield f"\nMeasured ({label}): {json.dumps(parts['measure'])}"


def main() -> None:
    """Runs the parts and writes both files after each result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--label", default="now")
    parser.add_argument("--package", type=Path, default=None)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.package is not None:
        sys.path.insert(0, str(options.package.resolve()))
    for name in options.only:
        figures = read().get(options.label, {}).get(name, {}) if name == "traffic" else {}
        keep = functools.partial(write, options.label, name, figures)
        PARTS[name](figures, keep)
        keep()


def read() -> dict[str, Any]:
    """Returns the results so far, by label and part."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return results


def write(label: str, name: str, figures: dict[str, Any]) -> None:
    """Writes the results of a part, beside those of others, and the tables."""
    print(label, name, json.dumps(figures), flush=True)
    results = read()  # again, since another run may have added to it
    results.setdefault(label, {})[name] = figures
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    RESULTS.with_suffix(".md").write_text("\n".join(table(results)) + "\n")


if __name__ == "__main__":
    main()
