"""Figures as SVG files that are the same to the byte while what they show is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure


def save_svg(figure: Figure, path: Path, **options: Any) -> Path:
    """Writes the figure without a date and with names of its parts that do not change from run to run."""
    with matplotlib.rc_context({"svg.hashsalt": path.name}):
        figure.savefig(path, metadata={"Date": None, "Creator": None}, **options)
    return path
