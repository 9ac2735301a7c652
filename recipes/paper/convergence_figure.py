"""Draws the figure of `recipes.paper.convergence`: the variance of each target, and the variance above the floor."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from itl_hf.report.figures import ACCENT, INK, PAPER
from recipes.paper.convergence import Course, envelope
from recipes.paper.style import plain

FOREIGN, RANDOM = "#e0457b", "#97a1ac"


def convergence_figure(result: Course) -> Figure:
    """Draws two panels: the variance of each target, and the mean reducible variance with its bound."""
    figure = Figure(figsize=(10.4, 4.0), layout="constrained", facecolor=PAPER)
    left, right = figure.subplots(1, 2)
    _targets(left, result)
    _reducible(right, result)
    return figure


def _targets(axes: Axes, result: Course) -> None:
    plain(axes)
    n = np.arange(1, len(result.variance))
    for target, foreign in enumerate(result.foreign):
        color = FOREIGN if foreign else ACCENT
        axes.plot(n, result.variance[1:, target], color=color, linewidth=1.0, alpha=0.75)
        # The irreducible part, as a tick to the right of the curve.
        axes.plot(
            [n[-1] * 1.08, n[-1] * 1.35], [result.irreducible[target]] * 2, color=color, linewidth=1.6, alpha=0.75
        )
    axes.set_xscale("log")
    axes.set_xlim(1, n[-1] * 1.4)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("rows picked", color=INK)
    axes.set_ylabel("variance left of each target", color=INK)
    axes.set_title("the ticks at the right are the irreducible parts", color=INK, fontsize=9.5, loc="right")
    handles = [
        Line2D([], [], color=ACCENT, label="topic is in the pool"),
        Line2D([], [], color=FOREIGN, label="topic is not"),
    ]
    axes.legend(handles=handles, frameon=False, labelcolor=INK, loc="lower left")


def _reducible(axes: Axes, result: Course) -> None:
    plain(axes)
    n = np.arange(2, len(result.variance))
    for name, variance, color in (("ITL", result.variance, ACCENT), ("random picks", result.at_random, RANDOM)):
        above = (variance[2:] - result.irreducible).clip(min=0).mean(1)
        axes.plot(n, above, color=color, linewidth=2, label=name)
    constant = float(result.constants.mean())
    bound = constant * envelope(n)
    axes.plot(n, bound, color=INK, linewidth=1.1, linestyle=(0, (4, 3)), label=f"{constant:.2f} log(n) / sqrt(n)")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("rows picked, n", color=INK)
    axes.set_ylabel("variance above the irreducible part, mean", color=INK)
    axes.legend(frameon=False, labelcolor=INK, loc="lower left")
