"""Pictures of the benchmark: loss against picks, and the two axes on which picks can be good."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recipes.benchmarks.fine_tuning.cells import WITHOUT_FEATURES, Record
from recipes.benchmarks.fine_tuning.config import UNTUNED
from recipes.benchmarks.fine_tuning.tables import REFERENCE, difference, values

COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777", "#994455", "#225555", "#e69f00")
MARKERS = "osD^vP*Xhp"


def draw(cells: Sequence[Record], path: Path) -> list[Path]:
    """Writes `<path>_<features>_loss.svg` and `_picks.svg` for every kind of features.

    Args:
        cells (`Sequence[Record]`): records of the results.
        path (`Path`): beginning of the files' names.
    """
    made = []
    for features in sorted({str(cell["features"]) for cell in cells} - {WITHOUT_FEATURES}):
        mine = [cell for cell in cells if cell["features"] in (features, WITHOUT_FEATURES)]
        if any(cell["loss"] is not None and cell["features"] == features for cell in mine):
            made.append(_save(_loss_figure(mine), path, f"{features}_loss"))
        made.append(_save(_picks_figure(mine), path, f"{features}_picks"))
    return made


def _save(figure: Figure, path: Path, name: str) -> Path:
    target = path.with_name(f"{path.name}_{name}.svg")
    figure.savefig(target, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    return target


def _loss_figure(cells: Sequence[Record]) -> Figure:
    """One budget: the difference to ITL of every method. Several: the loss against picks."""
    budgets = sorted({float(cell["picks"]) for cell in cells if cell["picks"]})
    variants = list(dict.fromkeys(str(cell["variant"]) for cell in cells))
    figure = Figure(figsize=(3.6 * len(variants) + 1, 4.2))
    axes = figure.subplots(1, len(variants), sharey=len(budgets) == 1, squeeze=False)[0]
    for name, axis in zip(variants, axes, strict=True):
        axis.set_title(name, fontsize=11)
        if len(budgets) == 1:
            _differences(axis, values(cells, "loss")[name])
        else:
            _curves(axis, [cell for cell in cells if cell["variant"] == name], budgets)
        axis.spines[["top", "right"]].set_visible(False)
    if len(budgets) > 1:
        axes[-1].legend(frameon=False, fontsize=8)
    return figure


def _differences(axis: Axes, methods: Mapping[str, Mapping[tuple[str, float], float]]) -> None:
    found = {name: difference(pairs, methods.get(REFERENCE, {})) for name, pairs in methods.items() if name != UNTUNED}
    known = sorted(((name, each) for name, each in found.items() if each is not None), key=lambda item: item[0])
    for place, (name, (mean, error)) in enumerate(known):
        axis.errorbar(mean, place, xerr=error or 0, fmt="o", color=_color(name), capsize=3, markersize=5)
    axis.set_yticks(range(len(known)), [name for name, _ in known], fontsize=9)
    axis.axvline(0, color="#999999", linewidth=0.8)
    axis.set_xlabel("held-out loss, difference to ITL (nats)\nright of the line: worse than ITL", fontsize=9)


def _curves(axis: Axes, cells: Sequence[Record], budgets: Sequence[float]) -> None:
    for name in sorted({str(cell["method"]) for cell in cells} - {UNTUNED}):
        points = []
        for picks in budgets:
            losses = [cell["loss"] for cell in cells if cell["method"] == name and cell["picks"] == picks]
            if losses and all(loss is not None for loss in losses):
                points.append((picks, statistics.fmean(losses)))
        axis.plot(*zip(*points, strict=True), marker="o", markersize=4, color=_color(name), label=name)
    axis.set_xscale("log", base=2)
    axis.set_xticks(budgets, [f"{picks:g}" for picks in budgets])
    axis.set_xlabel("picks", fontsize=9)
    axis.set_ylabel("held-out loss (nats)", fontsize=9)


def _picks_figure(cells: Sequence[Record]) -> Figure:
    """Relevance against diversity."""
    variants = list(dict.fromkeys(str(cell["variant"]) for cell in cells))
    names = sorted({str(cell["method"]) for cell in cells} - {UNTUNED})
    figure = Figure(figsize=(3.4 * len(variants) + 2, 3.6))
    axes = figure.subplots(1, len(variants), sharey=True, squeeze=False)[0]
    for variant, axis in zip(variants, axes, strict=True):
        for place, name in enumerate(names):
            mine = [cell for cell in cells if cell["variant"] == variant and cell["method"] == name]
            if mine:
                x, y = (statistics.fmean(float(cell[column] or 0) for cell in mine) for column in ("relevant", "score"))
                axis.plot(x, y, MARKERS[place % len(MARKERS)], color=_color(name), markersize=8, alpha=0.85)
        axis.set_title(variant, fontsize=11)
        axis.set_xlabel("share of picks of the targets' tasks", fontsize=9)
        axis.set_xlim(-0.03, 1.03)
        axis.set_ylim(-0.03, 1.03)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].set_ylabel("overlap with a fair set, copies once", fontsize=9)
    shapes = [
        Line2D([], [], linestyle="", marker=MARKERS[place % len(MARKERS)], color=_color(name), label=name)
        for place, name in enumerate(names)
    ]
    figure.legend(handles=shapes, loc="center left", bbox_to_anchor=(0.92, 0.5), frameon=False, fontsize=8)
    return figure


def _color(name: str) -> str:
    return "#000000" if name == REFERENCE else COLORS[sum(map(ord, name)) % len(COLORS)]
