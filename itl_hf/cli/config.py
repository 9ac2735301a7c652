"""`--config run.yaml`: the file sets defaults, flags override them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer
import yaml


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """An eager option callback: puts the file's values in as the command's defaults.

    Keys are the options' names without dashes in front, in any of their spellings. A list stands for what is separated
    by commas on the command line.

    Raises:
        `typer.BadParameter`: No such file, no mapping in it, a key that the command does not have or that stands there
            twice, or a value that is no number, text or list of them.
    """
    if path is None or context.resilient_parsing:
        return path
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise typer.BadParameter(f"{path} must hold `option: value` lines")
    known = _spellings(context)
    defaults: dict[str, object] = {}
    for key, value in values.items():
        spelling = str(key).replace("-", "_")
        if spelling not in known:
            near = difflib.get_close_matches(spelling, known, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise typer.BadParameter(f"{path}: unknown option `{key}`{hint}")
        if known[spelling] in defaults:
            raise typer.BadParameter(f"{path}: `{key}` is given twice, under two of its names")
        defaults[known[spelling]] = _text(value, f"{path}: `{key}`")
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _spellings(context: typer.Context) -> dict[str, str]:
    """Every name that an option goes by -> the name of its parameter."""
    known: dict[str, str] = {}
    for parameter in context.command.params:
        if parameter.name and parameter.name not in ("config", "help"):
            names = [option.lstrip("-") for option in parameter.opts if option.startswith("--")]
            known |= dict.fromkeys([parameter.name, *names], parameter.name)
    return known


def _text(value: object, where: str) -> object:
    """YAML's numbers as the text that the option's own parser expects, so that a file and a flag mean the same."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ",".join(map(str, value))
    raise typer.BadParameter(f"{where} must be a number, a text or a list of them, got {value!r:.60}")


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", callback=load_config, is_eager=True, help="YAML with these options; flags override it."),
]
