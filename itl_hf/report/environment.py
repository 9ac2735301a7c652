"""The environment of HTML templates, which escapes all data and makes hidden characters in it visible."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from itl_hf.report.text import visible


def html_environment(package: str) -> Environment:
    """Returns the environment of the templates in the folder `templates` of a package.

    Args:
        package (`str`):
            Name of the package, such as `"itl_hf.report"`.
    """
    return Environment(
        loader=PackageLoader(package),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
