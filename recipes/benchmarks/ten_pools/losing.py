"""Measures why ITL is behind round-robin where it is: which targets starve, which rows are picked, which part does it.

    python -m recipes.benchmarks.ten_pools.losing               # results/pools_losing.md and its CSV files
    python -m recipes.benchmarks.ten_pools.losing --publish     # only the page, from the CSV files

For every pool and shares of targets, ITL over the whole pool and round-robin pick for the same target sets. Where ITL
is behind by more than one standard error, it is run again with one part changed at a time. An interrupted run continues
where it stopped; measurements in the CSV files are not run again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import cast

import torch
from tqdm.auto import tqdm

from recipes.benchmarks.ten_pools.cells import Bench
from recipes.benchmarks.ten_pools.config import Config
from recipes.benchmarks.ten_pools.losing_changes import CHANGES, ITL, ROUND_ROBIN, Change
from recipes.benchmarks.ten_pools.losing_findings import is_losing
from recipes.benchmarks.ten_pools.losing_page import page
from recipes.benchmarks.ten_pools.losing_place import Place
from recipes.benchmarks.ten_pools.losing_results import Results, Row
from recipes.benchmarks.ten_pools.pool import SHARES
from recipes.tables import read_csv

HERE = Path(__file__).parent
LOSSES = HERE.parent / "results/pools_losses.csv"
#: Pools with tasks that say which picks are relevant. The cheap ones are first.
POOLS = (
    *("generated", "words", "languages", "functions", "small-talk"),
    *("bigbench", "bigbench-few", "bigbench-copies", "bigbench-noise"),
)

COMPARED = (ITL, ROUND_ROBIN)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the missing measurements and writes the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "yardsticks.yaml", help="features and number of picks")
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks/pools"))
    parser.add_argument("--bigbench_features", type=Path, default=Path("outputs/benchmarks/fine_tuning/features"))
    parser.add_argument("--results", type=Path, default=HERE.parent / "results/pools_losing.csv")
    parser.add_argument("--sets", type=int, default=8, help="target sets of each pool and shares")
    parser.add_argument("--pools", nargs="+", metavar="POOL", choices=POOLS, default=POOLS, help="run only these pools")
    parser.add_argument("--shares", nargs="+", metavar="SHARES", choices=list(SHARES), default=list(SHARES))
    parser.add_argument("--publish", action="store_true", help="only write the page of existing results")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    results = Results(options.results, options.work / "cells" / options.results.stem)
    if not options.publish:
        config = Config.read(options.config)
        bench = Bench(config, options.work / "features", options.bigbench_features)
        run(
            [Place(bench, *names, config.budgets[0]) for names in product(options.pools, options.shares)],
            results,
            options.sets,
        )
    tables = results.write()
    path = options.results.with_suffix(".md")
    losses = read_csv(LOSSES) if LOSSES.exists() else []
    path.write_text(page(tables, losses), encoding="utf-8")
    print(f"{len(tables['cells'])} cells: {path}")


def run(places: Sequence[Place], results: Results, num_sets: int) -> None:
    """Runs ITL and round-robin on the first sets of all places, then the changes where ITL is behind on them."""
    sets = [(place, numbers) for place in places if (numbers := _numbers(place, num_sets))]
    for place, numbers in sets:
        for number in tqdm(numbers, desc=f"{place.pool.name}, {place.shares}", unit="set"):
            if any(results.cell(*place.key(number, change)) is None for change in COMPARED):
                results.save(place.compare(number))
    for place, numbers in sets:
        itl_cells, rival_cells = ([_cell(results, place, number, change) for number in numbers] for change in COMPARED)
        if is_losing(itl_cells, rival_cells):
            _run_changes(place, results, itl_cells)


def _numbers(place: Place, num_sets: int) -> list[int]:
    """Returns the numbers of the first sets, none if the pool has too few labelled rows for the shares."""
    try:
        return [each.number for each in place.sets()[:num_sets]]
    except ValueError as error:
        print(f"left out: {error}")
        return []


def _run_changes(place: Place, results: Results, itl_cells: Sequence[Row]) -> None:
    pairs = list(product(itl_cells, CHANGES))
    for itl_cell, change in tqdm(pairs, desc=f"changes: {place.pool.name}, {place.shares}", unit="selection"):
        if results.cell(*place.key(itl_cell["set"], change)) is None:
            results.save({"cells": [place.change(itl_cell["set"], change, itl_cell["noise_std"])]})


def _cell(results: Results, place: Place, number: int, change: Change) -> Row:
    cell = results.cell(*place.key(number, change))
    if cell is None:
        raise RuntimeError(f"no cell of {change.name} on set {number} of {place.pool.name}, although it was measured")
    return cell


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
