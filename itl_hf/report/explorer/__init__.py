"""A selection to click through: a page served on this machine (Gradio), which loads nothing from anywhere else.

What a click changes is a `Session`; what the page then shows is a `View` of it. Both are plain values, so all of it but
the drawing is tested without a browser. Drawing (`static/*.js`) is done by the browser on a canvas from numbers: 50,000
points are 200 kB, and moving the rank slider asks the server nothing. The package `gradio` is the extra `explorer`.
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("gradio") is None:
    raise ImportError("itl_hf.report.explorer needs gradio. Install it with: pip install 'itl-hf[explorer]'")

from itl_hf.report.explorer.explorer_data import ExplorerData, gather
from itl_hf.report.explorer.page import build, serve

__all__ = ["ExplorerData", "build", "gather", "serve"]
