"""Figures of a selection, each a `matplotlib.figure.Figure`. The global state of matplotlib is not changed.

The colours are constants so that a page can replace those of text, grid and background by its own and follow the
reader's light or dark theme. The colours of the data are of medium lightness: legible on white and on near-black.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Layout

# Unusual values, so that no colour of the data is equal to one of them: replacing them in an SVG changes nothing else.
INK, FAINT, GRID, PAPER = "#1b1f25", "#66707b", "#dde1e6", "#fefefe"
POOL_COLOR, ACCENT, FLOOR = "#8d99a8", "#2f7ed8", "#d9662b"
RANKS = LinearSegmentedColormap.from_list("itl_rank", ["#1f7ae0", "#8b5cf6", "#e0457b", "#f08a24"])

# More points than this on a map are drawn smaller.
FULL_SIZE_POINTS = 5_000
# More lines than this cannot be distinguished, so percentiles are drawn instead.
MAX_LINES = 60


def map_figure(layout: Layout, *, pool_size: int | None = None, narrow: bool = False) -> Figure:
    """Draws the map: the pool as faint points, the targets as crosses, the picks coloured by rank.

    Args:
        layout (`Layout`):
            Coordinates of pool, targets and picks (`selection.layout`).
        pool_size (`int`, *optional*):
            Number of rows of the pool, for the legend if the map shows only a sample of them.
        narrow (`bool`, *optional*, defaults to `False`):
            Draws for a phone or a column of a paper: the text is larger in proportion to the figure.

    Returns:
        `matplotlib.figure.Figure`: The map.

    Example:
        >>> map_figure(selection.layout).savefig("map.png", dpi=200)
    """
    figure, axes = _axes((4.2, 4.7) if narrow else (7.2, 5.4))
    sample_size = len(layout.pool)
    sample = f" ({sample_size:,} drawn)" if pool_size is not None and pool_size > sample_size else ""
    count = sample_size if pool_size is None else pool_size
    # Tens of thousands of points are drawn as one bitmap: as vector shapes they would add megabytes to the page.
    axes.scatter(
        layout.pool[:, 0],
        layout.pool[:, 1],
        s=9 * min(1.0, FULL_SIZE_POINTS / max(1, sample_size)) ** 0.5,  # more points are smaller, so that density shows
        color=POOL_COLOR,
        alpha=0.45,
        linewidths=0,
        rasterized=True,
        label=f"pool: {count:,}{sample}",
    )
    # Under the picks and larger than they are, so that neither hides the other. The wide stroke in the colour of the
    # background sets the crosses off from the pool.
    axes.scatter(layout.targets[:, 0], layout.targets[:, 1], marker="x", s=76, color=PAPER, linewidths=3.4)
    axes.scatter(
        layout.targets[:, 0],
        layout.targets[:, 1],
        marker="x",
        s=66,
        color=INK,
        linewidths=1.5,
        label=f"targets: {len(layout.targets):,}",
    )
    picks = len(layout.picks)
    points = axes.scatter(
        layout.picks[:, 0],
        layout.picks[:, 1],
        c=np.arange(1, picks + 1),
        cmap=RANKS,
        s=30,
        edgecolors=PAPER,
        linewidths=0.7,
        label=f"picks: {picks:,}",
    )
    axes.set_xlabel(_axis_label(layout, 0))
    axes.set_ylabel(_axis_label(layout, 1))
    # The values of a principal component or of UMAP have no meaning of their own.
    axes.tick_params(length=0, labelbottom=False, labelleft=False)
    axes.grid(visible=False)
    location = "bottom" if narrow else "right"
    bar = figure.colorbar(points, ax=axes, location=location, pad=0.02, aspect=35)
    bar.set_label("rank of the pick (1 = first)", color=INK)
    bar.locator = MaxNLocator(integer=True, nbins=6)
    bar.ax.tick_params(colors=FAINT, labelcolor=INK)
    bar.outline.set_visible(False)
    _legend(axes, ncols=2 if narrow and sample else 3, narrow=narrow)
    return figure


def _axis_label(layout: Layout, number: int) -> str:
    if layout.method == "umap":
        return f"UMAP {number + 1}"
    return f"principal component {number + 1} ({layout.explained[number]:.0%} of variance)"


def variance_figure(
    target_variance: np.ndarray, irreducible: np.ndarray | None = None, *, narrow: bool = False
) -> Figure:
    """Draws the remaining variance of the targets after each pick, as a share of the variance before any pick.

    Args:
        target_variance (`np.ndarray`):
            (n + 1, m) posterior variance of each target after 0 to n picks.
        irreducible (`np.ndarray`, *optional*):
            (m,) the part of each variance that no row of the pool can remove, drawn as a floor.
        narrow (`bool`, *optional*, defaults to `False`):
            Draws for a phone or a column of a paper.

    Returns:
        `matplotlib.figure.Figure`: One thin line per target (the 10th to 90th percentile if there are more than 60
        targets) and the mean over the targets; a tick on the right edge at the floor of each target (not drawn for more
        than 60), and the mean of the floors as a dashed line.
    """
    left = variance_left(target_variance)  # (n + 1, m)
    figure, axes = _axes((4.2, 3.4) if narrow else (7.2, 4.0))
    steps = np.arange(len(left))
    if left.shape[1] <= MAX_LINES:
        lines = axes.plot(steps, left, color=ACCENT, alpha=0.4, linewidth=0.9)
        lines[0].set_label(f"each of {left.shape[1]} targets" if left.shape[1] > 1 else "the target")
    else:
        low, high = np.percentile(left, [10, 90], axis=1)
        axes.fill_between(
            steps, low, high, color=ACCENT, alpha=0.25, linewidth=0, label="10th to 90th percentile of targets"
        )
    axes.plot(steps, left.mean(axis=1), color=INK, linewidth=2.2, label="mean")
    if irreducible is not None:
        _floor(axes, variance_left(np.stack([target_variance[0], irreducible]))[1])
    axes.set_xlabel("rows picked")
    axes.set_ylabel("variance left\n(share of the value before any pick)")
    axes.set_ylim(0, max(1.02, float(left.max()) * 1.02))
    axes.set_xlim(0, max(1, len(left) - 1))
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _legend(axes, ncols=2 if narrow else 4, narrow=narrow)
    return figure


def gain_figure(
    gains: np.ndarray, *, label: str = "information about the targets (nats)", narrow: bool = False
) -> Figure:
    """Draws the gain of each pick.

    Args:
        gains (`np.ndarray`):
            (n,) gains in the order picked, as `Selection.gains`.
        label (`str`, *optional*, defaults to `"information about the targets (nats)"`):
            What the gains are; those of `"vtl"` and `"ctl"` are not information.
        narrow (`bool`, *optional*, defaults to `False`):
            Draws for a phone or a column of a paper.

    Returns:
        `matplotlib.figure.Figure`: One stem per pick.
    """
    figure, axes = _axes((4.2, 2.8) if narrow else (7.2, 3.4))
    ranks = np.arange(1, len(gains) + 1)
    axes.vlines(ranks, 0, gains, color=ACCENT, alpha=0.35, linewidth=min(3.0, 300 / max(1, len(gains))))
    axes.plot(ranks, gains, color=ACCENT, linewidth=0, marker="o", markersize=3.2 if len(gains) <= 300 else 1.5)
    axes.set_xlabel("rank of the pick (1 = first)")
    axes.set_ylabel(textwrap.fill(label, 28))  # a longer line does not fit the height of the figure
    if np.all(np.asarray(gains) >= 0):
        axes.set_ylim(bottom=0)
    axes.set_xlim(0, len(gains) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def variance_left(target_variance: np.ndarray) -> np.ndarray:
    """Returns the posterior variance of each target as a share of its prior variance, (n + 1, m).

    The share of a target whose prior variance is zero (its features are the mean of the pool) is 0.
    """
    variance = np.asarray(target_variance, dtype=np.float64)
    prior = variance[:1]
    return np.divide(variance, prior, out=np.zeros_like(variance), where=np.broadcast_to(prior > 0, variance.shape))


def _floor(axes: Axes, floor: np.ndarray) -> None:
    """Draws the shares that no pick can remove, (m,): their mean, and a tick for each target at the right edge."""
    axes.axhline(floor.mean(), color=FLOOR, linewidth=1.4, linestyle=(0, (4, 3)), label="floor (mean)")
    if len(floor) <= MAX_LINES:
        # In coordinates of the axes, so that the ticks are at the edge for any number of picks.
        axes.hlines(floor, 0.985, 1.0, transform=axes.get_yaxis_transform(), color=FLOOR, linewidth=1.2)


def _axes(size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=size, layout="constrained", facecolor=PAPER)
    axes: Axes = figure.add_subplot(facecolor=PAPER)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(color=FAINT, labelcolor=INK)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
    return figure, axes


def _legend(axes: Axes, ncols: int, narrow: bool) -> None:
    # Above the axes: inside them, the legend could cover points of the map.
    legend = axes.legend(
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        ncols=ncols,
        frameon=False,
        labelcolor=INK,
        borderaxespad=0.2,
        handletextpad=0.1 if narrow else 0.5,
        columnspacing=1.0 if narrow else 2.0,
    )
    for handle in legend.legend_handles:
        # A single point of the pool or a single line of a target is too faint to be recognised.
        if handle is not None:
            handle.set_alpha(1.0)
        if isinstance(handle, PathCollection):
            handle.set_sizes([max(30.0, *handle.get_sizes())])
