"""Compares `itl-hf estimate` with real selections of eight sizes, on one process and one thread.

    python -m recipes.benchmarks.calculator      # results/calculator.json

For each size the estimate and the real run have a process of their own. Times are seconds of the processor, which other
work on the machine changes little; with one thread they are the time of an idle machine. The real run selects from
random rows, measures what the pool can teach and makes the map, as `Selector.select` does after embedding. Memory is
the peak of the process less that before the rows were read; the rows themselves lie in a mapped file of the store.
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "calculator.json"
#: Rows, dimension, picks, targets, kernel.
SIZES = (
    (20_000, 64, 100, 8, "auto"),
    (60_000, 64, 50, 16, "auto"),
    (60_000, 256, 100, 8, "auto"),
    (120_000, 128, 30, 32, "auto"),
    (200_000, 64, 200, 16, "auto"),
    (100_000, 384, 20, 5, "linear"),
    (40_000, 768, 50, 10, "auto"),
    (400_000, 32, 50, 8, "auto"),
)


def _real(sizes: Any) -> dict[str, float]:
    from itl_hf import select_rows
    from itl_hf.embedding import FeatureStore
    from itl_hf.gp.attainable import attainable_variance
    from itl_hf.selection.estimate import time_picking
    from itl_hf.selection.result.layout import principal_layout

    time_picking(sizes.kernel, 1_024, 2, 8, 2)  # imports
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(folder, {}, rows=sizes.rows, dimension=sizes.dimension, shard_rows=8_192)
        random = np.random.default_rng(1)
        for shard in range(store.num_shards):
            first, end = store.row_range(shard)
            store.write(shard, random.standard_normal((end - first, sizes.dimension), dtype=np.float32))
        features = store.features()
        rows = features[np.sort(random.integers(0, sizes.rows, sizes.targets))]
        targets = rows + 0.5 * random.standard_normal(rows.shape, dtype=np.float32)
        before, start_time = _peak(), time.process_time()
        selection = select_rows(features, targets, sizes.num_examples, kernel=sizes.kernel)
        numbers = selection.indices.tolist()
        attainable_variance(selection.pool, selection.gp, include=numbers)
        principal_layout(selection.pool, selection.gp.targets, numbers)
        seconds = time.process_time() - start_time
        disk_bytes = sum(path.stat().st_size for path in Path(folder).iterdir())
    return {"seconds": seconds, "memory_bytes": _peak() - before, "disk_bytes": disk_bytes}


def _estimate(sizes: Any) -> dict[str, float]:
    from itl_hf.selection import estimate
    from itl_hf.selection.calculator import estimate_cost

    estimate.clock = time.process_time
    cost = estimate_cost(sizes)
    return {"seconds": cost.seconds, "memory_bytes": cost.memory_bytes, "disk_bytes": cost.disk_bytes}


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _call(name: str, number: int) -> dict[str, float]:
    command = [sys.executable, "-m", "recipes.benchmarks.calculator", "--step", name, "--size", str(number)]
    output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    figures: dict[str, float] = json.loads(output.splitlines()[-1])
    return figures


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step", choices=("real", "estimate"))
    parser.add_argument("--size", type=int)
    options = parser.parse_args()
    if options.step is not None:
        import torch

        from itl_hf.selection.calculator import SelectionSizes

        torch.set_num_threads(1)
        rows, dimension, num_examples, targets, kernel = SIZES[options.size]
        sizes = SelectionSizes(rows, dimension, num_examples, targets, kernel=kernel)
        print(json.dumps(_real(sizes) if options.step == "real" else _estimate(sizes)))
        return
    cases = []
    for number, size in enumerate(SIZES):
        estimate, real = _call("estimate", number), _call("real", number)
        ratios = {name: round(estimate[name] / real[name], 3) for name in real}
        cases.append({"size": size, "estimated": estimate, "real": real, "ratios": ratios})
        print(size, ratios, estimate["seconds"], real["seconds"], flush=True)
        machine = {"cpu": platform.processor() or platform.machine(), "threads": 1, "time": "of the processor"}
        names = ["rows", "dimension", "num_examples", "targets", "kernel"]
        RESULTS.write_text(json.dumps({"sizes": names, "cases": cases, "machine": machine}, indent=2) + "\n")


if __name__ == "__main__":
    _main()
