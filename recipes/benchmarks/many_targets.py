"""Measures how long a selection takes with many targets.

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.many_targets     # some minutes on one core; resumable

100 picks out of 10,000 rows of 384 numbers in 200 clusters of a decaying spectrum, for 500 to 50,000 targets of the
same clusters, with the linear and the default kernel (RBF), ITL and VTL. `cpu_seconds` is the process time of one
thread for the whole call of `select_rows`, so that a busy machine counts little; `seconds` is the time that passed.

Up to 2,000 targets the same selection is also made as with more (`reduced`: a triangular factor for the linear kernel,
pivots for others), and `equal_picks` says how many of the picks are the same, in order. `lost` is the share of the
targets' variance that the pivots leave over (`itl_hf.gp.many_targets`). Results are written to
`recipes/benchmarks/results/many_targets.json`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import platform
import time
import warnings
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from itl_hf import select_rows
from itl_hf.gp import many_targets
from itl_hf.selection.row_selection import RowSelection

RESULTS = Path(__file__).parent / "results" / "many_targets.json"
ROWS, DIMENSION, PICKS, CLUSTERS = 10_000, 384, 100, 200
TARGETS = (500, 2_000, 10_000, 50_000)
#: The largest number of targets for which both ways are compared.
MOST_PLAIN = 2_000


def draw(count: int, generator: np.random.Generator, centres: np.ndarray) -> np.ndarray:
    """Returns rows around the centres, (count, DIMENSION) float32."""
    spectrum = np.arange(1, DIMENSION + 1) ** -0.5
    rows = generator.standard_normal((count, DIMENSION)) + centres[generator.integers(len(centres), size=count)]
    features: np.ndarray = (rows * spectrum).astype(np.float32)
    return features


def select(pool: np.ndarray, targets: np.ndarray, kernel: str, acquisition: str) -> tuple[RowSelection, dict[str, Any]]:
    """Selects, and measures the time."""
    start, cpu_start = time.perf_counter(), time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        selection = select_rows(pool, targets, PICKS, kernel=kernel, acquisition=acquisition)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
    return selection, {"seconds": round(seconds, 2), "cpu_seconds": round(cpu_seconds, 2)}


def measure(num_targets: int, kernel: str, acquisition: str, num_rows: int) -> dict[str, Any]:
    """Measures one setting."""
    generator = np.random.default_rng(0)
    centres = generator.standard_normal((CLUSTERS, DIMENSION))
    pool, targets = draw(num_rows, generator, centres), draw(num_targets, generator, centres)
    selection, times = select(pool, targets, kernel, acquisition)
    reduction = selection.record.many_targets or {}
    row: dict[str, Any] = {"targets": num_targets, "kernel": kernel, "acquisition": acquisition, **times}
    row |= {"lost": reduction.get("lost", 0.0)}
    if num_targets <= MOST_PLAIN:
        with mock.patch.object(many_targets, "FEW_TARGETS", 100):
            reduced, reduced_times = select(pool, targets, kernel, acquisition)
        row |= {f"reduced_{name}": value for name, value in reduced_times.items()}
        row |= {"equal_picks": int((reduced.indices == selection.indices).sum()), "picks": PICKS}
    return row


def main() -> None:
    """Measures all settings that the results lack, and writes the results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="a few targets and rows, nothing is written")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sizes, num_rows = ((1_100,), 300) if arguments.smoke else (TARGETS, ROWS)
    is_resumed = RESULTS.exists() and not arguments.smoke
    rows: list[dict[str, Any]] = json.loads(RESULTS.read_text())["settings"] if is_resumed else []
    present = {(row["kernel"], row["targets"], row["acquisition"]) for row in rows}
    for setting in itertools.product(("linear", "rbf"), sizes, ("itl", "vtl")):
        if setting in present:
            continue
        kernel, num_targets, acquisition = setting
        rows.append(measure(num_targets, kernel, acquisition, num_rows))
        print(rows[-1], flush=True)
        if not arguments.smoke:
            about = {"python": platform.python_version(), "torch": torch.__version__, "rows": num_rows}
            RESULTS.write_text(json.dumps({**about, "settings": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
