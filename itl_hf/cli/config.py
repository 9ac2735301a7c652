"""`--config run.yaml`: the file sets defaults, flags override them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer
import yaml


def load_config(context: typer.Context, path: Path | None) -> Path | None:
    """Sets the values of the file as the command's defaults. This is an eager callback of the option `--config`.

    Keys are the options' names without dashes in front, in any of their spellings. A list is the same as values
    separated by commas on the command line, and a mapping (`columns: {prompt: question}`) the same as words `a=b`.

    Raises:
        `typer.BadParameter`: If there is no such file, it holds no mapping, a key is unknown or occurs twice, or a
            value is no number, text or list of them.
    """
    if path is None or context.resilient_parsing:
        return path
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise typer.BadParameter(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(values, dict):
        raise typer.BadParameter(f"{path} must hold `option: value` lines")
    parameter_names = _spellings(context)
    defaults: dict[str, object] = {}
    for key, value in values.items():
        spelling = str(key).replace("-", "_")
        if spelling not in parameter_names:
            near = difflib.get_close_matches(spelling, parameter_names, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise typer.BadParameter(f"{path}: unknown option `{key}`{hint}")
        if parameter_names[spelling] in defaults:
            raise typer.BadParameter(f"{path}: `{key}` is given twice, under two of its names")
        defaults[parameter_names[spelling]] = _text(value, f"{path}: `{key}`")
    context.default_map = {**(context.default_map or {}), **defaults}
    return path


def _spellings(context: typer.Context) -> dict[str, str]:
    """Maps every spelling of an option to the name of its parameter."""
    parameter_names: dict[str, str] = {}
    for parameter in context.command.params:
        if parameter.name and parameter.name not in ("config", "help"):
            names = [option.lstrip("-") for option in parameter.opts if option.startswith("--")]
            parameter_names |= dict.fromkeys([parameter.name, *names], parameter.name)
    return parameter_names


def _text(value: object, where: str) -> object:
    """Converts numbers to the text that the option's parser expects, so that a file and a flag mean the same."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, dict) and all(isinstance(item, str) for pair in value.items() for item in pair):
        return " ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list) and all(isinstance(item, str | int | float) for item in value):
        return ",".join(map(str, value))
    raise typer.BadParameter(f"{where} must be a number, a text or a list of them, got {value!r:.60}")


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", callback=load_config, is_eager=True, help="YAML with these options; flags override it."),
]
