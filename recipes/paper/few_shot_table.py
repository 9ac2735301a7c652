"""Writes the results of `recipes.paper.few_shot` as one CSV file, a table and a figure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from recipes.tables import read_csv, write_csv

#: Numbers of labelled rows that have a column in the table.
BUDGETS = (20, 50, 100, 150, 200)
NAMES = {
    "itl": "**ITL**",
    "vtl": "VTL",
    "ctl": "CTL",
    "round_robin": "round-robin nearest (RDS+)",
    "max_similarity": "nearest to any target",
    "cosine": "cosine to the mean target",
    "information_density": "information density",
    "undirected": "uncertainty sampling",
    "k_center": "k-center",
    "badge": "BADGE",
    "margin": "smallest margin",
    "random": "random",
}
#: One quantity by method, (seeds, budgets), for the seeds that all methods have.
Curves = Mapping[str, np.ndarray]


def publish(paths: Sequence[Path], folder: Path, name: str) -> None:
    """Joins the cells and writes `name.csv`, `.md` and `.svg` in a folder."""
    from recipes.figures import save_svg
    from recipes.paper.few_shot_figure import few_shot_figure

    rows = [row for path in paths for row in read_csv(path)]
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(folder / f"{name}.csv", rows)
    temporary_path = folder / f"{name}.part"
    temporary_path.write_text(table(rows), encoding="utf-8")
    os.replace(temporary_path, folder / f"{name}.md")
    save_svg(few_shot_figure(*curves(rows, "relevant", "accuracy")), folder / f"{name}.svg")


def curves(rows: Sequence[Mapping[str, str]], *quantities: str) -> tuple[np.ndarray, list[Curves]]:
    """Returns the numbers of labelled rows, and by quantity the curves of every method for the seeds that all have."""
    methods = sorted({row["method"] for row in rows}, key=lambda method: (_place(method), method))
    seeds = set.intersection(*({row["seed"] for row in rows if row["method"] == method} for method in methods))
    cells: dict[tuple[str, str], list[Mapping[str, str]]] = {}
    for row in rows:
        cells.setdefault((row["method"], row["seed"]), []).append(row)
    if not seeds:
        raise ValueError("no seed is done for all methods yet: run the same command again")
    order = sorted(seeds, key=int)
    sizes = np.array([int(row["n"]) for row in cells[methods[0], order[0]]])
    curves_per_quantity: list[Curves] = [
        {method: np.array([[float(row[name]) for row in cells[method, seed]] for seed in order]) for method in methods}
        for name in quantities
    ]
    return sizes, curves_per_quantity


def table(rows: Sequence[Mapping[str, str]]) -> str:
    """Returns Markdown with accuracy, the lead of ITL, and relevant rows."""
    sizes, (accuracy, relevant) = curves(rows, "accuracy", "relevant")
    columns = [place for place, size in enumerate(sizes) if size in BUDGETS] or [len(sizes) - 1]
    seeds = len(next(iter(accuracy.values())))
    head = [f"{sizes[place]} labelled" for place in columns]
    parts = [
        f"Mean and standard error over {seeds} seeds (each its own labels of interest, pool and test rows).",
        "Accuracy on test rows of the labels of interest:",
        _rows(head, {m: [_mean(v[:, place], 100, ".1f") for place in columns] for m, v in accuracy.items()}),
        "ITL's lead in accuracy, in points, seed by seed (positive: ITL is better):",
        _rows(
            head,
            {
                m: [_mean((accuracy["itl"] - v)[:, place], 100, "+.1f") for place in columns]
                for m, v in accuracy.items()
                if m != "itl" and "itl" in accuracy
            },
        ),
        "Labelled rows that are of interest:",
        _rows(head, {m: [_mean(v[:, place], 1, ".1f") for place in columns] for m, v in relevant.items()}),
    ]
    return "\n\n".join(parts) + "\n"


def _rows(head: Sequence[str], body: Mapping[str, Sequence[str]]) -> str:
    lines = [" | ".join(["| method", *head]) + " |", "|---" * (len(head) + 1) + "|"]
    lines += [" | ".join([f"| {NAMES.get(method, method)}", *cells]) + " |" for method, cells in body.items()]
    return "\n".join(lines)


def _mean(values: np.ndarray, unit: float, form: str) -> str:
    error = values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return f"{unit * values.mean():{form}} ± {unit * error:.1f}"


def _place(method: str) -> int:
    return list(NAMES).index(method) if method in NAMES else len(NAMES)
