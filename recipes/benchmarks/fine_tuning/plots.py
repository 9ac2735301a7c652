"""Draws the figures of the benchmark: the loss of every method, and relevance against diversity of the picks."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from recipes.benchmarks.fine_tuning.cells import WITHOUT_FEATURES, Record
from recipes.benchmarks.fine_tuning.config import UNTUNED
from recipes.benchmarks.fine_tuning.tables import REFERENCE, difference, values, variants_with_results
from recipes.figures import save_svg

COLORS: tuple[str, ...] = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#777777", "#994455")
COLORS += ("#225555", "#e69f00", "#0072b2", "#d55e00", "#7fb800", "#b08bbb", "#5c4033")
MARKERS = "osD^vP*Xhp"
PANELS_IN_A_ROW = 3


def draw(cells: Sequence[Record], path: Path) -> list[Path]:
    """Writes `<path>_<features>_loss.svg` and `_picks.svg` for every kind of features.

    Args:
        cells (`Sequence[Record]`):
            Records of the results.
        path (`Path`):
            Start of the file names.
    """
    paths = []
    for features in sorted({str(cell["features"]) for cell in cells} - {WITHOUT_FEATURES}):
        mine = [cell for cell in cells if cell["features"] in (features, WITHOUT_FEATURES)]
        if any(cell["loss"] is not None and cell["features"] == features for cell in mine):
            paths.append(_save(_loss_figure(mine), path, f"{features}_loss"))
        paths.append(_save(_picks_figure(mine), path, f"{features}_picks"))
    return paths


def _save(figure: Figure, path: Path, name: str) -> Path:
    return save_svg(figure, path.with_name(f"{path.name}_{name}.svg"), bbox_inches="tight")


def _loss_figure(cells: Sequence[Record]) -> Figure:
    """Draws the difference of every method to ITL for one budget, or the loss against picks for several."""
    budgets = sorted({float(cell["picks"]) for cell in cells if cell["picks"]})
    losses = values(cells, "loss")
    variants = variants_with_results(losses)
    order = _worst_first([losses[name] for name in variants])
    figure, axes = _panels(len(variants), 1.8 + 0.3 * len(order), sharey=len(budgets) == 1)
    for name, axis in zip(variants, axes, strict=True):
        axis.set_title(name, fontsize=11)
        if len(budgets) == 1:
            _differences(axis, losses[name], order)
        else:
            _curves(axis, [cell for cell in cells if cell["variant"] == name], budgets)
        axis.spines[["top", "right"]].set_visible(False)
    if len(budgets) > 1:
        axes[-1].legend(frameon=False, fontsize=8)
    return figure


def _panels(count: int, height: float, sharey: bool) -> tuple[Figure, list[Axes]]:
    """Returns a figure with `count` axes, three in a row."""
    columns = min(count, PANELS_IN_A_ROW)
    rows = -(-count // columns)
    figure = Figure(figsize=(3.6 * columns + 1, rows * height), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=sharey, squeeze=False).flatten().tolist()
    for axis in axes[count:]:
        axis.remove()
    return figure, axes[:count]


Losses = Mapping[str, Mapping[tuple[str, float], float]]


def _worst_first(variants: Sequence[Losses]) -> list[str]:
    """Sorts methods by their mean difference to ITL, the largest first, so that the best is drawn at the top."""
    differences: dict[str, list[float]] = {}
    for methods in variants:
        for name, pairs in methods.items():
            each = difference(pairs, methods.get(REFERENCE, {}))
            if name != UNTUNED and each is not None:
                differences.setdefault(name, []).append(each[0])
    return sorted(differences, key=lambda name: (-statistics.fmean(differences[name]), name))


def _differences(axis: Axes, methods: Losses, order: Sequence[str]) -> None:
    colors = _colors(order)
    for place, name in enumerate(order):
        each = difference(methods.get(name, {}), methods.get(REFERENCE, {}))
        if each is not None:
            axis.errorbar(each[0], place, xerr=each[1] or 0, fmt="o", color=colors[name], capsize=3, markersize=5)
    axis.set_yticks(range(len(order)), order, fontsize=9)
    axis.axvline(0, color="#999999", linewidth=0.8)
    axis.set_xlabel("held-out loss, difference to ITL (nats)\nright of the line: worse than ITL", fontsize=9)


def _curves(axis: Axes, cells: Sequence[Record], budgets: Sequence[float]) -> None:
    names = sorted({str(cell["method"]) for cell in cells} - {UNTUNED})
    colors = _colors(names)
    for name in names:
        points = []
        for picks in budgets:
            losses = [cell["loss"] for cell in cells if cell["method"] == name and cell["picks"] == picks]
            if losses and all(loss is not None for loss in losses):
                points.append((picks, statistics.fmean(losses)))
        axis.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colors[name], label=name)
    axis.set_xscale("log", base=2)
    axis.set_xticks(budgets, [f"{picks:g}" for picks in budgets])
    axis.set_xlabel("picks", fontsize=9)
    axis.set_ylabel("held-out loss (nats)", fontsize=9)


def _picks_figure(cells: Sequence[Record]) -> Figure:
    """Draws relevance against diversity."""
    variants = variants_with_results(values(cells, "score"))
    names = sorted({str(cell["method"]) for cell in cells} - {UNTUNED})
    colors = _colors(names)
    figure, axes = _panels(len(variants), 3.6, sharey=True)
    for variant, axis in zip(variants, axes, strict=True):
        for place, name in enumerate(names):
            mine = [cell for cell in cells if cell["variant"] == variant and cell["method"] == name]
            if mine:
                x, y = (statistics.fmean(float(cell[column] or 0) for cell in mine) for column in ("relevant", "score"))
                axis.plot(x, y, MARKERS[place % len(MARKERS)], color=colors[name], markersize=8, alpha=0.85)
        axis.set_title(variant, fontsize=11)
        axis.set_xlabel("share of picks of the targets' tasks", fontsize=9)
        axis.set_xlim(-0.03, 1.03)
        axis.set_ylim(-0.03, 1.03)
        axis.spines[["top", "right"]].set_visible(False)
    for axis in axes[::PANELS_IN_A_ROW]:
        axis.set_ylabel("overlap with a fair set, copies once", fontsize=9)
    shapes = [
        Line2D([], [], linestyle="", marker=MARKERS[place % len(MARKERS)], color=colors[name], label=name)
        for place, name in enumerate(names)
    ]
    figure.legend(handles=shapes, loc="outside right center", frameon=False, fontsize=8)
    return figure


def _colors(names: Sequence[str]) -> dict[str, str]:
    """Returns a colour for each method, by alphabetical order, so that both figures agree. ITL is black."""
    others = sorted({*names} - {REFERENCE})
    return {REFERENCE: "#000000"} | {name: COLORS[place % len(COLORS)] for place, name in enumerate(others)}
