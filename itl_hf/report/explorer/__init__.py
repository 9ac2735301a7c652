"""The explorer: an interactive page about a selection, served on this machine by Gradio, without external resources.

A click replaces the `Session` (what the visitor has done so far), and the page shows the `View` that is made from it.
Both are immutable values, so everything except the drawing is tested without a browser. The browser draws the map and
the curve on a canvas (`static/*.js`) from numbers: 200,000 points take 800 kB, and moving the rank slider sends no
request to the server. The package `gradio` is installed by the extra `explorer`.
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("gradio") is None:
    raise ImportError("itl_hf.report.explorer needs gradio. Install it with: pip install 'itl-hf[explorer]'")

from itl_hf.report.explorer.address import check_address
from itl_hf.report.explorer.explorer_data import ExplorerData, gather
from itl_hf.report.explorer.page import build, serve

__all__ = ["ExplorerData", "build", "check_address", "gather", "serve"]
