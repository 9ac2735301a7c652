"""Draws the figure of `recipes.paper.rbf`: maps of the remaining variance, and the variance over A after each pick."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from itl_hf.report.figures import INK, PAPER
from recipes.paper.rbf import METHODS, SIZE, Box, Scene, floor, mean_variance, select, variance_everywhere
from recipes.paper.style import COLORS, plain

PICK, TARGET = "#e0457b", "#1b1f25"


def rbf_figure(scenes: Sequence[Scene]) -> Figure:
    """Draws one row per scene: a map for each method, then the curves."""
    figure = Figure(figsize=(13.2, 2.3 * len(scenes) + 0.6), layout="constrained", facecolor=PAPER)
    grid = figure.add_gridspec(len(scenes), len(METHODS) + 1, width_ratios=[1] * len(METHODS) + [1.45])
    for row, scene in enumerate(scenes):
        for column, (method, title) in enumerate(METHODS.items()):
            axes = figure.add_subplot(grid[row, column])
            _map(axes, scene, method)
            if row == 0:
                axes.set_title(title, color=INK, fontsize=11)
            if column == 0:
                axes.set_ylabel(scene.title, color=INK, fontsize=11)
        _curves(figure.add_subplot(grid[row, -1]), scene, last=row == len(scenes) - 1, legend=row == 0)
    return figure


def _map(axes: Axes, scene: Scene, method: str) -> None:
    selection = select(scene, method, seed=0)
    picks = scene.sample.points()[selection.indices]  # (n, 2)
    spread = np.sqrt(variance_everywhere(selection))
    extent = (0, SIZE, 0, SIZE)
    axes.imshow(spread, cmap="Blues", vmin=0, vmax=1.35, origin="lower", extent=extent, interpolation="bilinear")
    _outline(axes, scene.sample, "S", linestyle=(0, (4, 3)), linewidth=1.1)
    _outline(axes, scene.targets, "A", linestyle="-", linewidth=1.8)
    axes.scatter(picks[:, 0], picks[:, 1], s=26, color=PICK, edgecolors=PAPER, linewidths=0.8, zorder=3, clip_on=False)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _outline(axes: Axes, box: Box, name: str, linestyle: object, linewidth: float) -> None:
    width, height = box.right - box.left, box.top - box.bottom
    axes.add_patch(
        Rectangle(
            (box.left, box.bottom), width, height, fill=False, color=TARGET, linestyle=linestyle, linewidth=linewidth
        )
    )
    axes.text(box.right + 0.1, box.top + 0.05, name, ha="left", va="center", color=INK, fontsize=10, weight="bold")


def _curves(axes: Axes, scene: Scene, last: bool, legend: bool) -> None:
    plain(axes)
    for method, title in METHODS.items():
        axes.plot(mean_variance(scene, method), color=COLORS[method], linewidth=2, label=title)
    axes.axhline(floor(scene), color=INK, linewidth=1, linestyle=(0, (1, 2)), label="irreducible")
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("mean variance over A", color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if last:
        axes.set_xlabel("answers asked for", color=INK)
    if legend:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper right", bbox_to_anchor=(1.02, 0.93))
