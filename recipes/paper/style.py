"""One colour for each method in all figures, and axes in the style of the package's figures."""

from __future__ import annotations

from matplotlib.axes import Axes

from itl_hf.report.figures import ACCENT, FAINT, GRID, INK, PAPER

#: Strong colours for ITL and related methods, warm ones for other methods with targets, greys for those without.
COLORS = {
    "itl": ACCENT,
    "vtl": "#8b5cf6",
    "ctl": "#17a2a2",
    "round_robin": "#e0457b",
    "max_similarity": "#b8860b",
    "cosine": "#f08a24",
    "information_density": "#8a5a3b",
    "undirected": "#5b6570",
    "k_center": "#97a1ac",
    "badge": "#3f7d4e",
    "margin": "#86b37a",
    "random": "#a9b1ba",
}


def plain(axes: Axes) -> None:
    """Draws a faint grid and no box."""
    axes.set_facecolor(PAPER)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(GRID)
    axes.tick_params(color=FAINT, labelcolor=INK)
