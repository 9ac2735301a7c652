"""Draws the figure of `recipes.paper.few_shot`: rows of interest and accuracy against labelled rows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from itl_hf.report.figures import INK, PAPER
from recipes.paper.few_shot_table import NAMES, Curves
from recipes.paper.style import COLORS, plain

WEAK = ("undirected", "k_center", "badge", "margin", "random")


def few_shot_figure(sizes: np.ndarray, quantities: Sequence[Curves]) -> Figure:
    """Draws two panels and one legend.

    Args:
        sizes (`np.ndarray`):
            Number of labelled rows after each round, (r,).
        quantities (`Sequence[Curves]`):
            Rows of interest and accuracy, for each method an array (seeds, r).
    """
    relevant, accuracy = quantities
    figure = Figure(figsize=(11.0, 4.6), layout="constrained", facecolor=PAPER)
    left, right = figure.subplots(1, 2)
    _curves(left, sizes, relevant)
    left.plot(sizes, sizes, color=INK, linewidth=0.9, linestyle=(0, (1, 2)), label="all of interest")
    left.set_ylabel("of these with a label of interest", color=INK)
    _curves(right, sizes, accuracy)
    right.set_ylabel("accuracy on the labels of interest", color=INK)
    right.yaxis.set_major_formatter(PercentFormatter(1.0))
    for axes in (left, right):
        axes.set_xlabel("rows labelled", color=INK)
        axes.set_xlim(0, sizes[-1])
        axes.set_ylim(bottom=0)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, labelcolor=INK, fontsize=9)
    return figure


def _curves(axes: Axes, sizes: np.ndarray, curves: Curves) -> None:
    plain(axes)
    for method, values in curves.items():
        if method not in COLORS:  # variants are shown only in the table
            continue
        mean = values.mean(0)
        error = values.std(0, ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.zeros_like(mean)
        weak = method in WEAK
        alpha = 0.08 if weak else 0.16
        axes.fill_between(sizes, mean - error, mean + error, color=COLORS[method], alpha=alpha, linewidth=0)
        axes.plot(
            sizes,
            mean,
            color=COLORS[method],
            linewidth=2.4 if method == "itl" else 1.5,
            linestyle=(0, (4, 2)) if weak else "-",
            zorder=3 if method == "itl" else 2,
            label=NAMES[method].strip("*"),
        )
