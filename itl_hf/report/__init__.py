"""Reports about a selection: figures (matplotlib) and one self-contained HTML page (jinja2).

The extra `report` installs both packages; importing this package without them raises an error that says so.
"""

from __future__ import annotations

import importlib.util

_missing = [name for name in ("matplotlib", "jinja2") if importlib.util.find_spec(name) is None]
if _missing:
    raise ImportError(f"itl_hf.report needs {' and '.join(_missing)}. Install it with: pip install 'itl-hf[report]'")

from itl_hf.report.figures import gain_figure, map_figure, variance_figure  # noqa: E402
from itl_hf.report.page import Table, write_report  # noqa: E402

__all__ = ["Table", "gain_figure", "map_figure", "variance_figure", "write_report"]
