"""Writes the results of `kernel_and_noise` as a small CSV file and a Markdown page."""

from __future__ import annotations

import csv
import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from recipes.tables import read_csv

Row = dict[str, str]
Key = tuple[str, str]  # method, setting

YARDSTICKS = ("relevant", "found", "fewest", "fewest_picks", "distinct", "score")
COLUMNS = ("features", "pool", "targets", "method", "setting", "n", *YARDSTICKS)
#: Methods whose rows for each target set are in the CSV file. Of other methods it has only the mean over target sets.
HEADLINES: Sequence[Key] = (("default", ""), ("round-robin", ""), ("cosine", ""), ("linear dimensions-unit", "rule"))
BASELINES: Sequence[Key] = (("round-robin", ""), ("cosine", ""), ("random", ""))

READING = """What it decided: `kernel="auto"` is RBF with lengthscale 0.6 and `noise_std="auto"` the rule of
`itl_hf.selection.defaults`.

- The rule's score is within noise of the best fixed value of each grid, which differs from pool to pool and which only
  labels can find. Lengthscales of 0.4 to 0.8 hardly differ; 0.2 and less serve small numbers of picks unevenly, and so
  does a lengthscale taken from the distance to the nearest rows.
- Against round-robin: relevance is higher at 256 and 512 picks and within half a point elsewhere, but for 96 picks
  with near-duplicates under the sentence encoder (.94 against .98): sets of one task have run out of different rows
  there, and the default goes elsewhere rather than repeat itself. `found`, which counts copies once, and the distinct
  originals are higher at every size with near-duplicates. Shares are far more even at 16 picks, where round-robin
  serves whichever targets come first. Where it is not better: on the pool as it is, at 48 and 96 picks, round-robin's
  score is .02 to .03 higher, since it keeps the targets' proportions by construction and the default gives rare tasks
  more than theirs.
- Against the linear kernel with its own rule: ahead with near-duplicates, level or up to a hundredth behind without
  (whitened to 64 directions likewise; on the quickstart's targets with SmolLM2 features it is clearly behind). A large
  pool, where the default gives way to the linear kernel, loses little by it.
- Never `standardize="scale"` for hidden states: a few dimensions then decide everything.
- One seed, one generated pool, small models, tasks as the yardstick, and the lengthscale chosen on these very sets:
  what it does for the loss after fine-tuning, and on other pools, is another measurement."""


def publish(blocks: Iterable[Path], directory: Path) -> None:
    """Writes `kernel_and_noise.csv` and `kernel_and_noise.md` from all blocks of cells."""
    rows: list[Row] = []
    for path in blocks:
        rows += read_csv(path)
    if not rows:
        raise FileNotFoundError("no cells have been measured yet: run without --publish first")
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / "kernel_and_noise.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(means(rows) + [row for row in rows if (row["method"], row["setting"]) in HEADLINES])
    (directory / "kernel_and_noise.md").write_text(page(rows), encoding="utf-8")


def means(rows: Iterable[Row]) -> list[Row]:
    """Returns means over target sets, with `mean` as the name of the target set."""
    groups: dict[tuple[str, ...], list[Row]] = defaultdict(list)
    for row in rows:
        groups[tuple(row[name] for name in ("features", "pool", "method", "setting", "n"))].append(row)
    return [
        {**group[0], "targets": "mean"}
        | {name: f"{statistics.fmean(float(row[name]) for row in group):.3f}" for name in YARDSTICKS}
        for group in groups.values()
    ]


def page(rows: Sequence[Row]) -> str:
    """Returns the Markdown page with the scores of all methods and the default's lead, by pool and kind of features."""
    parts = [
        "# Kernel and noise",
        "Written by `python -m recipes.benchmarks.kernel_and_noise`, which also says what the yardsticks mean. Means "
        "over "
        f"{len({row['targets'] for row in rows})} target sets; five numbers in a cell are for "
        + ", ".join(sorted({row["n"] for row in rows}, key=int))
        + " picks, score is their mean. *Lead*: the default's score minus this one's, mean over target sets ± standard "
        "error. *Best fixed* is the value of the grid with the highest score, which only labels can find.",
        READING,
        "Score in each place:",
        summary(rows),
    ]
    for place in sorted({(row["features"], row["pool"]) for row in rows}):
        here = [row for row in rows if (row["features"], row["pool"]) == place]
        parts += [f"## {place[0]}, pool {place[1]}", headline_table(here), "RBF, score:", grid(here, "rbf ")]
        parts += ["Linear, score:", grid(here, "linear "), "By target set:", by_targets(here)]
    return "\n\n".join(parts) + "\n"


def summary(rows: Sequence[Row]) -> str:
    """Returns scores of the default, the rules and the baselines, one column for each pool and kind of features."""
    places = sorted({(row["features"], row["pool"]) for row in rows})
    keys = [key for key in dict.fromkeys((row["method"], row["setting"]) for row in rows) if key[1] in ("", "rule")]
    lines = [f"| method | {' | '.join(', '.join(place) for place in places)} |", "|---" * (len(places) + 1) + "|"]
    for key in sorted(keys, key=lambda key: -score(rows, key)):
        here = [[row for row in rows if (row["features"], row["pool"]) == place] for place in places]
        lines.append(f"| {' '.join(key).strip()} | {' | '.join(f'{score(part, key):.3f}' for part in here)} |")
    return "\n".join(lines)


def headline_table(rows: Sequence[Row]) -> str:
    """Returns a table of the default, the best fixed values, the rules and the baselines."""
    keys = list(dict.fromkeys((row["method"], row["setting"]) for row in rows))
    keys_by_name: dict[str, Key] = {"default": ("default", "")}
    for kind in ("rbf", "linear"):
        fixed = [key for key in keys if key[0].startswith(kind) and key[1] != "rule"]
        best = max(fixed, key=lambda key: score(rows, key), default=None)
        if best:
            keys_by_name[f"best fixed {kind}: {best[0].removeprefix(kind + ' ')}, noise variance {best[1]}"] = best
    keys_by_name |= {f"{key[0]}, rule": key for key in keys if key[1] == "rule"} | {key[0]: key for key in BASELINES}
    lines = ["| method | relevant | found | fewest | distinct | score | lead |", "|---|---|---|---|---|---|---|"]
    for name, key in keys_by_name.items():
        if key in keys:
            cells = [series(rows, key, name) for name in ("relevant", "found", "fewest", "distinct")]
            lines.append(f"| {name} | {' | '.join(cells)} | {score(rows, key):.3f} | {lead(rows, key)} |")
    return "\n".join(lines)


def grid(rows: Sequence[Row], start: str) -> str:
    """Returns a table with the scores of all settings of one kind of kernel."""
    mine = [row for row in rows if row["method"].startswith(start)]
    settings = sorted(
        {row["setting"] for row in mine}, key=lambda text: float("inf") if text == "rule" else float(text)
    )
    lines = [f"| noise variance | {' | '.join(settings)} |", "|---" * (len(settings) + 1) + "|"]
    for method in dict.fromkeys(row["method"] for row in mine):
        cells = [score(mine, (method, setting)) for setting in settings]
        lines.append(f"| {method} | {' | '.join(f'{cell:.3f}' if cell >= 0 else '' for cell in cells)} |")
    return "\n".join(lines)


def by_targets(rows: Sequence[Row]) -> str:
    """Returns a table with the scores of the headline methods on each target set."""
    names = [" ".join(key).strip() for key in HEADLINES]
    lines = [f"| targets | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for targets in dict.fromkeys(row["targets"] for row in rows):
        mine = [row for row in rows if row["targets"] == targets]
        lines.append(f"| {targets} | {' | '.join(f'{score(mine, key):.3f}' for key in HEADLINES)} |")
    return "\n".join(lines)


def score(rows: Iterable[Row], key: Key) -> float:
    """Returns the mean score of a method over target sets and sizes, or -1 if it has none."""
    scores = [float(row["score"]) for row in rows if (row["method"], row["setting"]) == key]
    return statistics.fmean(scores) if scores else -1.0


def series(rows: Iterable[Row], key: Key, yardstick: str) -> str:
    """Returns a yardstick's mean over target sets for each size."""
    sizes: dict[int, list[float]] = defaultdict(list)
    for row in rows:
        if (row["method"], row["setting"]) == key:
            sizes[int(row["n"])].append(float(row[yardstick]))
    return " ".join(f"{statistics.fmean(sizes[size]):.2f}" for size in sorted(sizes))


def lead(rows: Sequence[Row], key: Key) -> str:
    """Returns the default's lead in score, paired by target set, with its standard error."""
    scores_by_key: dict[Key, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        scores_by_key[row["method"], row["setting"]][row["targets"]].append(float(row["score"]))
    ours, theirs = scores_by_key[("default", "")], scores_by_key[key]
    gaps = [statistics.fmean(ours[name]) - statistics.fmean(theirs[name]) for name in ours]
    if key == ("default", "") or len(gaps) < 2:
        return ""
    return f"{statistics.fmean(gaps):+.3f} ± {statistics.stdev(gaps) / len(gaps) ** 0.5:.3f}"
