"""The templates of the page's HTML, which escape all data."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from itl_hf.report.text import visible

_templates = Environment(
    loader=PackageLoader("itl_hf.report.explorer"),
    autoescape=True,
    finalize=visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render(name: str, /, **values: Any) -> str:
    """Returns the HTML of a template; values are escaped, and hidden characters in them are made visible."""
    return _templates.get_template(name).render(**values)
