"""Writes figures as SVG files that are equal byte for byte if the figures are equal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure


def save_svg(figure: Figure, path: Path, **options: Any) -> Path:
    """Writes the figure without a date and with element names that do not change from run to run."""
    with matplotlib.rc_context({"svg.hashsalt": path.name}):
        figure.savefig(path, metadata={"Date": None, "Creator": None}, **options)
    return path
