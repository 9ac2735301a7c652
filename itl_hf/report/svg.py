"""Figures as SVG inside a page: they scale with the page and use its colours in the light and the dark theme."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
from markupsafe import Markup
from matplotlib.figure import Figure

from itl_hf.report.figures import FAINT, GRID, INK, PAPER, gain_figure, map_figure, variance_figure, variance_left
from itl_hf.report.gains import gain_name

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

THEME = {INK: "var(--ink)", FAINT: "var(--faint)", GRID: "var(--line)", PAPER: "var(--paper)"}
#: Largest number of points of a sparkline; it is only as wide as a word, so that more points would overlap.
SPARK_POINTS = 40


def figures(selection: Selection) -> dict[str, Markup]:
    """Makes the figures of map, variance and gain, each in two widths.

    The style sheet shows the wide figure or, on a phone, the narrow one.
    """
    left = variance_left(selection.target_variance)[-1].mean()
    makers: dict[str, tuple[str, Callable[[bool], Figure]]] = {
        "map": (
            "Map of the pool's rows, the targets and the picks in two dimensions.",
            lambda narrow: map_figure(selection.layout, pool_size=selection.pool_size, narrow=narrow),
        ),
        "variance": (
            f"Remaining variance of the targets by number of picked rows: from 100% to {left:.0%} on average.",
            lambda narrow: variance_figure(selection.target_variance, selection.irreducible, narrow=narrow),
        ),
        "gain": (
            f"Gain of each pick, in the order picked: {gain_name(selection.record)}.",
            lambda narrow: gain_figure(selection.gains, label=gain_name(selection.record), narrow=narrow),
        ),
    }
    return {
        name: Markup('<div class="at-desk">{}</div><div class="on-phone">{}</div>').format(
            inline_svg(make(False), f"{name}-wide", description), inline_svg(make(True), f"{name}-narrow", description)
        )
        for name, (description, make) in makers.items()
    }


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """Turns a figure into an SVG element that scales with the page and uses its text and background colours.

    Args:
        figure (`Figure`):
            A figure with the colours of `itl_hf.report.figures`.
        name (`str`):
            A name that is unique in the page; all ids in the SVG start with it.
        description (`str`):
            What the figure shows, for readers who cannot see it.

    Returns:
        `Markup`: The SVG element.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name, "savefig.dpi": 200}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for side in ("height", "width"):
        svg = re.sub(rf'(<svg[^>]*?) {side}="[^"]*"', r"\1", svg, count=1)
    # Several SVGs are in one document: with equal ids, one figure would use the shapes of another.
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", svg)
    for color, variable in THEME.items():
        svg = svg.replace(color, variable)
    label = Markup('<svg role="img" aria-label="{}"').format(description)
    return Markup(svg.replace("<svg", label, 1))  # nosec B704


def sparkline(left: np.ndarray, floor: float) -> Markup:
    """Draws the remaining variance of one target as a curve of the size of a word, with its floor as a dashed line.

    Args:
        left (`np.ndarray`):
            (n + 1,) remaining variance after each pick, as a share of the variance before any pick.
        floor (`float`):
            The share that no row of the pool can remove.

    Returns:
        `Markup`: The SVG element.
    """
    steps = np.unique(np.linspace(0, len(left) - 1, min(SPARK_POINTS, len(left))).round().astype(int))
    x_values = 100 * steps / max(1, len(left) - 1)
    y_values = 26 - 24 * np.clip(left[steps], 0, 1)
    points = " ".join(f"{x:.0f},{y:.1f}" for x, y in zip(x_values, y_values, strict=True))
    floor_y = 26 - 24 * min(max(floor, 0.0), 1.0)
    return Markup(
        '<svg class="spark" viewBox="0 0 100 28" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="floor" d="M0 {floor_y}H100"/><polyline points="{points}"/></svg>'
    ).format(floor_y=f"{floor_y:.1f}", points=points)
