"""The templates of the page's HTML, which escape all data."""

from __future__ import annotations

from typing import Any

from itl_hf.report.environment import html_environment

_templates = html_environment("itl_hf.report.explorer")


def render(name: str, /, **values: Any) -> str:
    """Returns the HTML of a template; values are escaped, and hidden characters in them are made visible."""
    return _templates.get_template(name).render(**values)
