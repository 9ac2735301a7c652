"""Two stages: a cheap encoder makes the shortlist, the model embeds the rows on it. What is lost, and what is saved?

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.shortlist     # about ten minutes, once the features exist

BIG-bench rows as they are and with near-duplicates, target sets of `recipes.benchmarks.ten_pools`, 96 picks. The list
is made by all-MiniLM-L6-v2, the picks by hidden states of SmolLM2-135M, whose standardization has the listed rows only,
as `Selector(HiddenStates(model), shortlist=Shortlist(size, SentenceEncoder(encoder)))` does it. No training: the picks
are scored by the tasks of their rows (`recipes.benchmarks.fine_tuning.scores`).

The share of the cost is that of the rows which the model embeds; the encoder's own cost is not in it. In the layers
benchmark MiniLM took an eighth of the time of the hidden states.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from tqdm.auto import tqdm

from itl_hf import select_rows
from itl_hf.gp.pool import Pool as PreparedPool
from itl_hf.selection.defaults import AUTO_KERNEL, AUTO_STANDARDIZATION
from itl_hf.selection.shortlist.listed_rows import ListedRows
from recipes.benchmarks.fine_tuning.scores import RowLabels, fair_shares, yardsticks
from recipes.benchmarks.ten_pools.features import Features
from recipes.benchmarks.ten_pools.pool import Pool, TargetSet, target_sets
from recipes.benchmarks.ten_pools.registry import load_pool
from recipes.offline import smollm2

NUM_PICKS = 96
#: Sizes of the list: a share of the pool, or times the number of picks.
SHARES, TIMES_PICKS = (1 / 5, 1 / 10, 1 / 50), (1.5,)
POOLS, TARGET_SHARES = ("bigbench", "bigbench-copies"), ("equal", "mixture", "handful")

Record = dict[str, Any]


def list_rows(cheap_rows: np.ndarray, cheap_targets: np.ndarray, size: int) -> np.ndarray:
    """Returns the row numbers on a list of this size by the cheap features, ascending."""
    pool = PreparedPool(torch.from_numpy(cheap_rows), AUTO_STANDARDIZATION)
    targets = pool.preparation(torch.from_numpy(cheap_targets))
    listed_rows = ListedRows(pool, AUTO_KERNEL, targets, targets[:0])
    listed_rows.grow(torch.ones(pool.num_rows, dtype=torch.bool), size)
    return np.sort(np.array(listed_rows.rows))


def measure(
    pool: Pool,
    targets: TargetSet,
    rows: np.ndarray,
    arrays: Sequence[tuple[np.ndarray, np.ndarray]],
) -> Iterator[Record]:
    """Yields the scores of the picks from the whole pool and from every list.

    Args:
        pool (`Pool`):
            Tasks and originals of its rows.
        targets (`TargetSet`):
            The targets.
        rows (`np.ndarray`):
            (M,) rows of the pool for this set.
        arrays (`Sequence[tuple[np.ndarray, np.ndarray]]`):
            Features of the pool and of its bank, cheap ones and those that rows are picked by.
    """
    (cheap_rows, cheap_bank), (states, states_bank) = ((part[rows], bank[targets.target_rows]) for part, bank in arrays)
    labels = RowLabels(pool.tasks, pool.row_originals)
    fair = fair_shares(labels, rows, targets.shares, NUM_PICKS)
    sizes = {f"1/{round(1 / share)} of the pool": round(share * len(rows)) for share in SHARES}
    sizes |= {f"{times} times the picks": round(times * NUM_PICKS) for times in TIMES_PICKS}
    for name, size in {"the whole pool": len(rows), **sizes}.items():
        listed = np.arange(len(rows)) if size == len(rows) else list_rows(cheap_rows, cheap_bank, size)
        picks = listed[select_rows(states[listed], states_bank, NUM_PICKS).indices]
        yield {"list": name, "embedded": len(listed) / len(rows), **yardsticks(labels, rows[picks], fair)}


def summarize(records: Sequence[Record]) -> list[Record]:
    """Returns, for each pool and size of the list, means over sets and shares of targets, and differences to the whole
    pool with their standard errors over sets.
    """
    summary = []
    for pool in dict.fromkeys(record["pool"] for record in records):
        of_pool = [record for record in records if record["pool"] == pool]
        whole = {_key(record): record for record in of_pool if record["list"] == "the whole pool"}
        for name in dict.fromkeys(record["list"] for record in of_pool):
            part = [record for record in of_pool if record["list"] == name]
            entry: Record = {"pool": pool, "list": name, "cells": len(part)}
            entry["embedded"] = float(np.mean([record["embedded"] for record in part]))
            for column in ("score", "relevant", "originals"):
                differences = np.array([record[column] - whole[_key(record)][column] for record in part])
                entry[column] = float(np.mean([record[column] for record in part]))
                entry[f"{column}_difference"] = float(differences.mean())
                entry[f"{column}_error"] = float(differences.std(ddof=1) / len(differences) ** 0.5)
            summary.append(entry)
    return summary


def _key(record: Record) -> tuple[str, int]:
    return record["shares"], record["set"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures all lists and writes the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=10, help="number of target sets for each pool and share of targets")
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks"))
    parser.add_argument("--results", type=Path, default=Path("recipes/benchmarks/results/shortlist.json"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    folders = options.work / "pools" / "features", options.work / "fine_tuning" / "features"
    features = [Features(name, str(smollm2()), *folders) for name in ("minilm", "hidden-states")]
    records = []
    for name in POOLS:
        pool = load_pool(name)
        arrays = [kind.of(pool) for kind in features]
        cells = [
            (shares, targets)
            for shares in TARGET_SHARES
            for targets in target_sets(pool, "development", options.sets, shares)
        ]
        for shares, targets in tqdm(cells, desc=name, unit="set"):
            entry = {"pool": name, "shares": shares, "set": targets.number}
            rows = pool.available_rows(targets.tasks)
            records += [entry | record for record in measure(pool, targets, rows, arrays)]
    content = {"picks": NUM_PICKS, "sets": options.sets, "summary": summarize(records)}
    options.results.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for entry in content["summary"]:
        print(json.dumps(entry))


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
