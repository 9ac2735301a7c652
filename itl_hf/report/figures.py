"""Figures of a selection, each a `matplotlib.figure.Figure`; no global state of matplotlib is touched.

The few colours are named here so that a page can swap those of text, grid and background for its own and follow the
reader's light or dark theme. The colours of data are of middle lightness: legible on white and on near-black.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Layout

# Odd values on purpose: no colour of the data equals one of these, so replacing them in an SVG hits nothing else.
INK, FAINT, GRID, PAPER = "#1b1f25", "#66707b", "#dde1e6", "#fefefe"
POOL_COLOR, ACCENT, FLOOR = "#8d99a8", "#2f7ed8", "#d9662b"
RANKS = LinearSegmentedColormap.from_list("itl_rank", ["#1f7ae0", "#8b5cf6", "#e0457b", "#f08a24"])

# Beyond this many single lines the eye sees a blot; percentiles say more.
MAX_LINES = 60


def map_figure(layout: Layout, *, pool_size: int | None = None, narrow: bool = False) -> Figure:
    """The map: the pool as faint points, targets as crosses, picks coloured by rank.

    Args:
        layout (`Layout`):
            Coordinates, see `itl_hf.selection.result.selection.Layout`.
        pool_size (`int`, *optional*):
            Rows of the pool, for the legend where the map shows a sample of them.
        narrow (`bool`, *optional*, defaults to `False`):
            For a phone or a column of a paper: letters are larger in proportion.

    Returns:
        `matplotlib.figure.Figure`

    Example:
        >>> map_figure(selection.layout).savefig("map.png", dpi=200)
    """
    figure, axes = _axes((4.2, 4.7) if narrow else (7.2, 5.4))
    drawn = len(layout.pool)
    sample = f" ({drawn:,} drawn)" if pool_size is not None and pool_size > drawn else ""
    count = drawn if pool_size is None else pool_size
    # Tens of thousands of points as one picture: as vector shapes they would make the page megabytes heavy.
    axes.scatter(
        layout.pool[:, 0],
        layout.pool[:, 1],
        s=9,
        color=POOL_COLOR,
        alpha=0.45,
        linewidths=0,
        rasterized=True,
        label=f"pool: {count:,}{sample}",
    )
    picks = len(layout.picks)
    points = axes.scatter(
        layout.picks[:, 0],
        layout.picks[:, 1],
        c=np.arange(1, picks + 1),
        cmap=RANKS,
        s=38,
        edgecolors=PAPER,
        linewidths=0.7,
        label=f"picks: {picks:,}",
    )
    # A broad stroke of paper under a thin one of ink keeps crosses visible on top of crowded picks.
    axes.scatter(layout.targets[:, 0], layout.targets[:, 1], marker="x", s=52, color=PAPER, linewidths=3.4)
    axes.scatter(
        layout.targets[:, 0],
        layout.targets[:, 1],
        marker="x",
        s=42,
        color=INK,
        linewidths=1.5,
        label=f"targets: {len(layout.targets):,}",
    )
    axes.set_xlabel(_axis_label(layout, 0))
    axes.set_ylabel(_axis_label(layout, 1))
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
    """How unsure the model stays about the targets while rows are picked, as a share of what it was before.

    Args:
        target_variance (`np.ndarray`):
            (n + 1, m), posterior variance of each target after 0..n picks.
        irreducible (`np.ndarray`, *optional*):
            (m,), the part of it that no pick can remove: drawn as a floor.
        narrow (`bool`, *optional*, defaults to `False`):
            See `map_figure`.

    Returns:
        `matplotlib.figure.Figure`: one thin line a target (10th to 90th percentile instead where there are more than
        60) and the mean of the lines; on the right edge a tick at each target's floor, and their mean as a dashed line.
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


def gain_figure(gains: np.ndarray, *, narrow: bool = False) -> Figure:
    """What each pick added.

    Args:
        gains (`np.ndarray`):
            (n,), nats of information about the targets, in the order picked.
        narrow (`bool`, *optional*, defaults to `False`):
            See `map_figure`.

    Returns:
        `matplotlib.figure.Figure`
    """
    figure, axes = _axes((4.2, 2.8) if narrow else (7.2, 3.4))
    ranks = np.arange(1, len(gains) + 1)
    axes.vlines(ranks, 0, gains, color=ACCENT, alpha=0.35, linewidth=min(3.0, 300 / max(1, len(gains))))
    axes.plot(ranks, gains, color=ACCENT, linewidth=0, marker="o", markersize=3.2 if len(gains) <= 300 else 1.5)
    axes.set_xlabel("rank of the pick (1 = first)")
    axes.set_ylabel("information gained (nats)")
    if np.all(np.asarray(gains) >= 0):
        axes.set_ylim(bottom=0)
    axes.set_xlim(0, len(gains) + 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure


def variance_left(target_variance: np.ndarray) -> np.ndarray:
    """Posterior variance of each target as a share of its prior variance, (n + 1, m).

    A target whose variance is zero from the start (its features are the pool's mean) has nothing left: 0.
    """
    variance = np.asarray(target_variance, dtype=np.float64)
    prior = variance[:1]
    return np.divide(variance, prior, out=np.zeros_like(variance), where=np.broadcast_to(prior > 0, variance.shape))


def _floor(axes: Axes, floor: np.ndarray) -> None:
    """What no pick can remove: of each target at the right edge, (m,) shares, and on average."""
    axes.axhline(floor.mean(), color=FLOOR, linewidth=1.4, linestyle=(0, (4, 3)), label="floor (mean)")
    if len(floor) <= MAX_LINES:
        # In shares of the axes: the ticks keep their place at the edge however many picks there are.
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
    # Above the axes: inside, it would cover points in some corner of some map.
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
        # The pool's points and the targets' lines are too faint to be recognised alone.
        if handle is not None:
            handle.set_alpha(1.0)
        if isinstance(handle, PathCollection):
            handle.set_sizes([max(30.0, *handle.get_sizes())])
