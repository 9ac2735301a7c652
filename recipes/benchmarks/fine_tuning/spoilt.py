"""Measures how well scores of learnability tell wrong answers from right ones, on the pool with noise.

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.fine_tuning.spoilt                # development sets, seed 0
    OMP_NUM_THREADS=1 python -m recipes.benchmarks.fine_tuning.spoilt --sets words

For each set: the union of every target's 50 nearest rows by hidden states, of which a fifth have the answer of another
row of their task; the losses of their answers before and after a training on the 44 labelled targets, and after the
prompt of a similar row; and for each score of `recipes.learnability` the area under the ROC curve within the set's
tasks, the share of wrong answers, and that share when a row counts by its quality. About five minutes of CPU time a
set. A set whose losses are in the work folder is not measured again.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import torch

from recipes.benchmarks.fine_tuning.cells import Cell
from recipes.benchmarks.fine_tuning.config import Config
from recipes.benchmarks.fine_tuning.features import embedder, features
from recipes.benchmarks.fine_tuning.labelled import HIDDEN_STATES, LabelledBench
from recipes.benchmarks.fine_tuning.rows import DEVELOPMENT_SETS
from recipes.benchmarks.fine_tuning.tuner import Row, Tuner
from recipes.benchmarks.fine_tuning.variants import variant
from recipes.learnability.__main__ import swap_prompts
from recipes.learnability.quality import contrast, nearest_rows, normalised_drop, quality_of
from recipes.tables import write_csv

HERE = Path(__file__).parent
NEIGHBOURS = 20
Arrays = dict[str, np.ndarray]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures the missing sets and writes the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, default=HERE / "labelled.yaml")
    parser.add_argument("--sets", nargs="+", default=list(DEVELOPMENT_SETS))
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks/fine_tuning"))
    parser.add_argument("--results", type=Path, default=Path("recipes/benchmarks/results/fine_tuning_spoilt.csv"))
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    bench: LabelledBench | None = None
    records = []
    for targets in options.sets:
        path = options.work / "spoilt" / f"{targets}.npz"
        if not path.exists():
            bench = bench or make_bench(Config.read(options.config), options.work)
            save(path, measure(bench, targets))
        with np.load(path, allow_pickle=False) as arrays:
            records += table({name: arrays[name] for name in arrays.files}, targets)
    write_csv(options.results, records, digits=4)
    print(f"{len(records)} lines: {options.results}")


def save(path: Path, arrays: Arrays) -> None:
    """Writes the arrays; an interrupted write leaves no file of this name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    with open(draft, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
    os.replace(draft, path)


def make_bench(config: Config, work: Path) -> LabelledBench:
    """Returns the benchmark with hidden states of the pool and a model to train."""
    rows = config.rows()
    folder = work / "features" / HIDDEN_STATES
    hidden = features(rows, embedder(HIDDEN_STATES, config.model()), folder, ["noise"])
    return LabelledBench(config, rows, {HIDDEN_STATES: hidden}, Tuner(config.model(), config.training), work=work)


def measure(bench: LabelledBench, targets: str) -> Arrays:
    """Returns losses of the shortlist's answers, their features, tasks, and whether they are wrong, (n, ...) each."""
    assert bench.tuner is not None
    pool, cell = variant(bench.rows, "noise", targets), Cell(HIDDEN_STATES, "noise", targets, "", 0, 0)
    numbers = bench.shortlist(cell, pool)
    rows: list[Row] = [pool.row(bench.rows, number) for number in numbers]
    hidden = bench.features[HIDDEN_STATES]["rows"][numbers]
    swapped_rows = [{**row} for row in swap_prompts(rows, nearest_rows(hidden, NEIGHBOURS))]
    before, _ = bench.tuner.measure(rows)
    labelled = bench.rows.bank.select(bench.rows.target_rows(pool.shares, 0)).to_list()
    with bench.tuner.training_on(labelled, seed=0):
        after, swapped = bench.tuner.measure(rows)[0], bench.tuner.measure(swapped_rows)[0]
    right_answers = bench.rows.everything.select(numbers)["completion"]
    return {
        "before": np.array(before),
        "after": np.array(after),
        "swapped": np.array(swapped),
        "features": hidden,
        "task": np.array([row["task"] for row in rows]),
        "of_targets": np.array([row["task"] in pool.shares for row in rows]),
        "wrong": np.array([row["completion"] != right for row, right in zip(rows, right_answers, strict=True)]),
    }


def table(arrays: Mapping[str, np.ndarray], targets: str) -> list[dict[str, object]]:
    """Returns a line for each score, and for each of the set's tasks and all of them."""
    neighbours = nearest_rows(arrays["features"], NEIGHBOURS)
    scores = {
        "loss_drop": normalised_drop(arrays["before"], arrays["after"]),
        "contrast": contrast(arrays["after"], arrays["swapped"]),
    }
    lines: list[dict[str, object]] = []
    for name, score in scores.items():
        quality, mine = quality_of(score, neighbours), arrays["of_targets"]
        for task in (*dict.fromkeys(arrays["task"][mine].tolist()), "all"):
            part = mine & (arrays["task"] == task) if task != "all" else mine
            wrong, weights = arrays["wrong"][part], quality[part]
            lines.append(
                {"targets": targets, "task": task, "score": name, "rows": int(part.sum()), "wrong": wrong.mean()}
                | {"roc_auc": roc_auc(score[part], ~wrong), "wrong_by_quality": np.average(wrong, weights=weights)}
            )
    return lines


def roc_auc(scores: np.ndarray, good: np.ndarray) -> float | None:
    """Returns the probability that a good row has a higher score than another, ties counting half; `None` without both.

    Example:
        >>> roc_auc(np.array([1.0, 2.0, 2.0]), np.array([False, True, False]))
        0.75
    """
    high, low = scores[good], scores[~good]
    if not len(high) or not len(low):
        return None
    difference = high[:, None] - low
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
