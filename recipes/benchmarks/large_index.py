"""Selects from a large store of random float16 rows through a shortlist, with and without an index on disk.

    python -m recipes.benchmarks.large_index --rows 30000000 --folder rows     # results/large_index.json

Each step runs in a process of its own, which reports its time and its peak memory (resident pages; those of files that
are mapped count while they are in memory). The rows are independent and normal: they have no clusters, which is the
hardest case for an index of lists. Targets are rows of the pool with noise.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "large_index.json"
DIMENSION, TARGETS, PICKS, LISTED = 64, 16, 100, 1_000
SHARD_ROWS = 2**18
FINGERPRINT: dict[str, str | int | float | bool | None] = {"embedder": "random numbers", "dimension": DIMENSION}


def _write(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from itl_hf.embedding import FeatureStore

    store = FeatureStore(
        folder, FINGERPRINT, rows=options.rows, dimension=DIMENSION, shard_rows=SHARD_ROWS, dtype="float16"
    )
    for shard in store.missing():
        first, end = store.row_range(shard)
        rows = np.random.default_rng(shard).standard_normal((end - first, DIMENSION), dtype=np.float32)
        store.write(shard, rows.astype(np.float16))
    return {"bytes": _bytes(folder)}


def _index(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from itl_hf.embedding import FeatureStore
    from itl_hf.selection.defaults import resolve_kernel_spec
    from itl_hf.selection.shortlist.index_file import build_index

    before = _bytes(folder)
    facts = build_index(FeatureStore.open(folder), resolve_kernel_spec("auto", True).standardization, options.kind)
    return {"kind": facts.kind, "searched_lists": facts.num_lists, "bytes": _bytes(folder) - before}


def _select(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    from itl_hf import select_rows
    from itl_hf.embedding import FeatureStore

    features = FeatureStore.open(folder).features()
    random = np.random.default_rng(1)
    near = features[np.sort(random.integers(0, len(features), TARGETS))].astype(np.float32)
    targets = near + 0.5 * random.standard_normal(near.shape, dtype=np.float32)
    selection = select_rows(features, targets, PICKS, shortlist=LISTED)
    return {"picks": selection.indices.tolist(), "shortlist": selection.record.shortlist}


def _select_exactly(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    module = importlib.import_module("itl_hf.selection.select_rows")
    module.indexed_rows = lambda *_: None  # type: ignore[attr-defined]
    return _select(folder, options)


STEPS = {"write": _write, "index": _index, "select": _select, "select_exactly": _select_exactly}


def _run_step(name: str, words: list[str]) -> dict[str, Any]:
    command = [sys.executable, "-m", "recipes.benchmarks.large_index", *words, "--step", name]
    result = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    print(name, {key: value for key, value in figures.items() if key != "picks"}, flush=True)
    return figures


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=30_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--kind", default="IVF1024,SQ8")
    parser.add_argument("--step", choices=STEPS)
    options = parser.parse_args()
    if options.step is not None:
        start_time = time.perf_counter()
        figures = STEPS[options.step](options.folder, options)
        seconds = round(time.perf_counter() - start_time, 1)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({**figures, "seconds": seconds, "peak_bytes": peak}))
        return
    steps = {name: _run_step(name, sys.argv[1:]) for name in STEPS}
    indexed_picks, exact_picks = steps["select"].pop("picks"), steps["select_exactly"].pop("picks")
    results = {
        "rows": options.rows,
        "dimension": DIMENSION,
        "targets": TARGETS,
        "picks": PICKS,
        "steps": steps,
        "common_picks": len({*indexed_picks} & {*exact_picks}),
        "machine": {"cpu": platform.processor() or platform.machine(), "cores": os.cpu_count()},
    }
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    _main()
