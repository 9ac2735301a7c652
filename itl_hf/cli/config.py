"""`--config run.yaml`: the file sets defaults, flags override them."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Annotated

import typer

from itl_hf.cli.yaml_file import read_yaml


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
        values = read_yaml(path)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(
            f"{path} cannot be read: {error}" if isinstance(error, OSError) else str(error)
        ) from error
    parameter_names = _spellings(context)
    flags = {one.name for one in context.command.params if getattr(one, "is_flag", False)}
    defaults: dict[str, object] = {}
    for key, value in values.items():
        spelling = str(key).replace("-", "_")
        if spelling not in parameter_names:
            near = difflib.get_close_matches(spelling, parameter_names, n=1)
            hint = f"; did you mean `{near[0]}`?" if near else ""
            raise typer.BadParameter(f"{path}: unknown option `{key}`{hint}")
        if parameter_names[spelling] in defaults:
            raise typer.BadParameter(f"{path}: `{key}` is given twice, under two of its names")
        name, where = parameter_names[spelling], f"{path}: `{key}`"
        _check_flag(value, name in flags, where)
        defaults[name] = _text(value, where)
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


def _check_flag(value: object, is_flag: bool, where: str) -> None:
    """Raises an error unless `true` and `false` are the values of flags, and flags have no others."""
    if is_flag and not isinstance(value, bool | None):
        raise typer.BadParameter(f"{where} must be true or false, got {value!r:.60}")
    if not is_flag and isinstance(value, bool):
        word = str(value).lower()
        raise typer.BadParameter(
            f"{where} is no switch, and YAML reads its value (such as yes, no, on, off) as {word}: write a number, or "
            "a text in quotes"
        )


def _text(value: object, where: str) -> object:
    """Converts values to the text that the option's parser expects, so that a file and a flag mean the same."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, dict) and all(type(item) is str for pair in value.items() for item in pair):
        return " ".join(f"{key}={item}" for key, item in value.items())
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return ",".join(map(str, value))
    raise typer.BadParameter(f"{where} must be a number, a text or a list of them, got {value!r:.60}")


ConfigOption = Annotated[
    Path | None,
    typer.Option("--config", callback=load_config, is_eager=True, help="YAML with these options; flags override it."),
]
