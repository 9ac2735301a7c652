"""Collects all predictors and writes the results."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from recipes.benchmarks.fine_tuning.cells import Record
from recipes.benchmarks.fine_tuning.rows import TEST_SETS
from recipes.benchmarks.loss_predictors.inputs import Inputs
from recipes.benchmarks.loss_predictors.panel import GOOD_METHODS, Entry, space_predictors
from recipes.benchmarks.loss_predictors.picks import Picked
from recipes.benchmarks.loss_predictors.predictors import NEAREST, predictor_names
from recipes.benchmarks.loss_predictors.spaces import Space
from recipes.benchmarks.loss_predictors.tables import Predictor, common, markdown_table, records, restricted
from recipes.benchmarks.loss_predictors.yardsticks import (
    COMMITTED,
    OTHER_SEEDS,
    by_task,
    committed,
    loss_of_other_seeds,
    mean_length,
)

YARDSTICK = "yardstick"
#: Quantities on the page; the others are in the CSV file.
SHOWN = {
    "variance left, rbf, noise 1": "variance left, RBF, noise 1",
    "variance left, rbf, noise 10": "variance left, RBF, noise 10",
    "variance left, linear, noise 10": "variance left, linear, noise 10",
    "similarity of the nearest pick": "nearest pick",
    f"of the {NEAREST} nearest picks": f"{NEAREST} nearest picks",
    "of all picks": "all picks",
}
#: Features that exist for few rows: all predictors are also compared on the cells that have them.
FEW_ROWS = ("MiniLM", "multilingual-e5", "gradients, true labels")
ALL_CELLS, COMMON_CELLS = "all", "in every space"
HEAD = """# What predicts the loss?

`python -m recipes.benchmarks.loss_predictors` wrote this page; with `--publish` it only writes the page again. Nothing
is trained: the picks of the trained cells of [fine_tuning.md](fine_tuning.md) are computed again, and numbers that are
known without training are compared with the held-out losses.

Spearman's rank correlation with the held-out loss among the methods of one pool, target set and seed, averaged over
pools and seeds, mean and standard error over the six target sets. 1: orders the methods as the loss does; 0: says
nothing. *Cells*: the loss of a cell, tasks weighted by their targets. *Tasks*: the loss of each task, among the
methods, within the task. *Good methods*: ITL, VTL, round-robin and BM25 only, whose losses are level; to order all
methods is easy, since methods that pick other tasks are far behind. A star marks features that read the answers of the
held-out rows, which are known only where targets are labelled.

*Variance left*: the mean posterior variance of the held-out prompts after noisy observations of the picks; features
standardised as by default. *Nearest pick*: the cosine of a held-out prompt to its nearest pick, mean over prompts.
All noises, and correlations of differences instead of ranks, are in `loss_predictors.csv`.
"""


def kernels(inputs: Inputs, entries: Sequence[Entry], spaces: Sequence[Space]) -> list[Predictor]:
    """Returns the predictors of every feature space."""
    predictors = []
    for space in spaces:
        values = space_predictors(space, entries, inputs.held_out(), inputs.work / "predictors")
        predictors += [
            Predictor(space.name, name, values[:, :, place], space.needs_answers)
            for place, name in enumerate(predictor_names())
        ]
    return predictors


def yardsticks(inputs: Inputs, entries: Sequence[Entry]) -> list[Predictor]:
    """Returns the predictors that need no features, and the reference that needs trainings."""
    rows = inputs.rows.everything
    answers = np.array([len(text) for text in rows["completion"]])
    lengths = answers + np.array([len(text) for text in rows["prompt"]])
    values = {name: committed(name, entries, inputs.measured) for name in COMMITTED}
    values |= {
        "picks of the task": by_task("task_picks", entries, inputs.measured_tasks),
        "originals of the task": by_task("task_originals", entries, inputs.measured_tasks),
        "characters of the picks": mean_length(entries, lengths),
        "characters of their answers": mean_length(entries, answers),
        OTHER_SEEDS: loss_of_other_seeds(entries),
    }
    return [Predictor(YARDSTICK, name, numbers) for name, numbers in values.items()]


def loss_records(inputs: Inputs, entries: Sequence[Entry], spaces: Sequence[Space]) -> list[Record]:
    """Returns the correlation of every predictor with the loss, and again for the cells known in `FEW_ROWS`."""
    predictors = [*yardsticks(inputs, entries), *kernels(inputs, entries, spaces)]
    rows = records(predictors, entries, ALL_CELLS)
    few = [name for name in FEW_ROWS if name in {predictor.features for predictor in predictors}]
    places = common(predictors, entries, few)
    if few and places:
        rows += records(restricted(predictors, places), [entries[place] for place in places], COMMON_CELLS)
    return rows


def page(rows: Sequence[Record], settings: Sequence[Record], picked: Sequence[Picked]) -> str:
    """Returns the Markdown page.

    Args:
        rows (`Sequence[Record]`):
            Correlations, as from `loss_records`.
        settings (`Sequence[Record]`):
            Predicted differences of settings, as from `development_records`.
        picked (`Sequence[Picked]`):
            The cells.
    """
    quantities = SHOWN | {str(row["quantity"]): str(row["quantity"]) for row in rows if row["features"] == YARDSTICK}
    parts = [HEAD, cells_line(picked)]
    for title, cells in {"All cells": ALL_CELLS, "The cells that have every kind of features": COMMON_CELLS}.items():
        mine = [row for row in rows if row["cells"] == cells]
        # Features of fewer cells than others are shown only where all are compared on the same cells.
        most = max((row["known_cells"] for row in mine), default=0)
        shown = [row for row in mine if row["known_cells"] == most or row["features"] == YARDSTICK]
        if shown:
            parts += [f"\n## {title}\n", f"{most} cells.\n", markdown_table(shown, quantities)]
    if settings:
        parts += [SETTINGS_HEAD, settings_table(settings)]
    return "\n".join(parts) + "\n"


def cells_line(picked: Sequence[Picked]) -> str:
    """Returns a sentence on the cells that were compared and those that were left out."""
    equal = [one for one in picked if not one.differences]
    good = Counter(one.cell.method in GOOD_METHODS for one in equal)
    return (
        f"{len(equal)} trained cells of {len(TEST_SETS)} target sets, {good[True]} of them of good methods. Left out, "
        f"because the yardsticks of their picks are not the committed ones: {len(picked) - len(equal)} cells."
    )


SETTINGS_HEAD = """
## Which setting should be trained next? (prediction, nothing was trained)

ITL with hidden states on the 24 development tasks, one seed; predicted difference to the default (whole pool, RBF,
noise by rule), with its standard error over six target sets; negative: predicted to be better. Shortlist: the first
rows of round-robin's order, c times the picks.
"""


def settings_table(rows: Sequence[Record]) -> str:
    """Returns one line for each setting and predictor, and one column for each pool."""
    pools = list(dict.fromkeys(str(row["pool"]) for row in rows))
    lines: dict[tuple[str, str], dict[str, str]] = {}
    for row in rows:
        value = f"{row['difference']:+.4f} ± {row['error']:.4f}"
        lines.setdefault((str(row["predictor"]), str(row["setting"])), {})[str(row["pool"])] = value
    table = [f"| predictor | setting | {' | '.join(pools)} |", "|---" * (2 + len(pools)) + "|"]
    for (predictor, setting), values in lines.items():
        table.append(f"| {predictor} | {setting} | {' | '.join(values.get(pool, '') for pool in pools)} |")
    return "\n".join(table)
