"""The page: a table of verdicts, and the reasons and errors below it."""

from __future__ import annotations

from recipes.model_page.run import Result


def page(results: dict[str, Result]) -> str:
    """Returns the text of docs/models.md."""
    return ""


def print_result(name: str, result: Result) -> None:
    """Prints what was found for a configuration, with reasons, errors and differences."""
    print(f"{name}: {result.get('class', result.get('error'))}, {result['seconds']} s")
    for check, one in result.items():
        if isinstance(one, dict):
            difference = "" if one["difference"] is None else f"{one['difference']:.1e} "
            print(f"  {check}: {one['verdict']} {difference}{one['note']}", flush=True)
