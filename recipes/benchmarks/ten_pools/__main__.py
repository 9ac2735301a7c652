"""Compares selection methods on many pools, over target sets that are drawn from each.

    python -m recipes.benchmarks.ten_pools --config recipes/benchmarks/ten_pools/yardsticks.yaml     # scores of picks
    python -m recipes.benchmarks.ten_pools --config recipes/benchmarks/ten_pools/losses.yaml         # losses

On several cores, one process for each part of the jobs: `--part 1/2` and `--part 2/2`, and `--publish` at the end. An
interrupted run continues where it stopped; cells in the committed CSV file are not run again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from tqdm.auto import tqdm

from recipes.benchmarks.fine_tuning.tuner import Tuner
from recipes.benchmarks.ten_pools.cells import Bench, Job, jobs
from recipes.benchmarks.ten_pools.config import WITHOUT_FEATURES, Config
from recipes.benchmarks.ten_pools.store import Store
from recipes.benchmarks.ten_pools.tables import page

HERE = Path(__file__).parent


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the missing cells and publishes all results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "yardsticks.yaml")
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks/pools"))
    parser.add_argument("--bigbench_features", type=Path, default=Path("outputs/benchmarks/fine_tuning/features"))
    parser.add_argument("--embed", action="store_true", help="only compute features; torchrun processes share the work")
    parser.add_argument("--part", default="1/1", metavar="K/N", help="run every Nth target set, starting with the Kth")
    parser.add_argument("--only", nargs="+", metavar="METHOD", help="run only these methods of the config")
    parser.add_argument("--pools", nargs="+", metavar="POOL", help="run only these pools")
    parser.add_argument("--halves", nargs="+", metavar="HALF", help="run these halves instead of the config's")
    parser.add_argument(
        "--again", nargs="+", metavar="METHOD", help="first remove these methods' results; not while others run"
    )
    parser.add_argument("--publish", action="store_true", help="only write the tables of existing results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config = Config.read(options.config)
    store = Store(Path(config.results), options.work / "cells", config.key())
    if options.again:
        store.discard(options.again)
    if not options.publish:
        run(config.restricted(options.only, options.pools, options.halves), store, options)
    if not options.embed:
        publish(config, store, str(options.config))


def run(config: Config, store: Store, options: argparse.Namespace) -> None:
    """Runs the missing jobs of this part, or only computes features."""
    bench = Bench(config, options.work / "features", options.bigbench_features)
    part, parts = map(int, options.part.split("/"))
    possible_jobs = _possible(bench, list(jobs(config)))
    if options.embed:
        for features, pool in dict.fromkeys((job.cell.features, job.cell.pool) for job in possible_jobs):
            if features != WITHOUT_FEATURES:
                bench.features(features, pool)
        return
    missing_jobs = [job for job in possible_jobs if job.cell.set % parts == part - 1 and job.cell not in store]
    if missing_jobs and config.training is not None:
        bench.tuner = Tuner(config.model(), config.training)
    for job in tqdm(missing_jobs, desc="cells", unit="cell"):
        store.save(job.cell, bench.run(job))


def _possible(bench: Bench, all_jobs: Sequence[Job]) -> list[Job]:
    """Returns the jobs whose pool has enough labelled rows for their shares, and prints which have not."""
    possible = {}
    for place in dict.fromkeys((job.cell.pool, job.cell.half, job.cell.shares) for job in all_jobs):
        try:
            possible[place] = bool(bench.sets(*place))
        except ValueError as error:
            print(f"left out: {error}")
            possible[place] = False
    return [job for job in all_jobs if possible[job.cell.pool, job.cell.half, job.cell.shares]]


def publish(config: Config, store: Store, config_path: str) -> None:
    """Writes the CSV file and its page."""
    records = store.collect()
    path = Path(config.results).with_suffix(".md")
    path.write_text(page(records, config, config_path), encoding="utf-8")
    print(f"{len(records)} cells: {path}")


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
