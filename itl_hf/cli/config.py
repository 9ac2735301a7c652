"""`--config run.yaml`: the file sets defaults, flags override them."""

from __future__ import annotations

import difflib
from pathlib import Path

import typer
import yaml


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """An eager option callback: puts the file's values in as the command's defaults.

    Raises:
        `typer.BadParameter`: no such file, no mapping in it, or a key that the command does not have.
    """
    if path is None or context.resilient_parsing:
        return path
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise typer.BadParameter(f"{path} must hold `option: value` lines")
    known = {parameter.name for parameter in context.command.params if parameter.name}
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise typer.BadParameter(f"{path}: unknown option `{key}`{hint}")
    context.default_map = {**(context.default_map or {}), **{key: _text(value) for key, value in values.items()}}
    return path


def _text(value: object) -> object:
    """YAML's numbers as the text that the option's own parser expects, so that a file and a flag mean the same."""
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value
