"""Writes docs/command_line.md from the commands themselves: `python docs/command_line.py` (or `make docs`)."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import typer.main

sys.path.insert(0, str(Path(__file__).parents[1]))

from itl_hf.cli.examples import EXAMPLES, wrapped
from itl_hf.cli.main import app
from itl_hf.cli.output import SHARED
from itl_hf.cli.train_arguments import SelectionArguments

PAGE = Path(__file__).with_suffix(".md")
HEAD = """# The command line

Made by `docs/command_line.py` from the commands themselves; a test keeps the two equal. `itl-hf COMMAND --help` says
the same.

- Options are spelled with underscores, as TRL's and as the Python arguments; dashes are understood, too.
- `--config run.yaml` holds any options as `name: value` lines; flags override the file. A list stands for commas.
- `--json` prints one JSON object on stdout and everything else on stderr; a command that fails prints
  `{"command": ..., "error": ...}`.
- `--quiet` hides progress bars and notes of libraries; warnings about your data stay. `--verbose` adds what is done
  and tracebacks.
- `--dry_run` (`embed`, `select`, `train`) reads all rows, runs the model on a few batches and says what the real run
  would take. How near that is: [recipes/benchmarks](../recipes/benchmarks/README.md#dry-run).
- `itl-hf --install-completion` teaches your shell the options; `--show-completion` prints what it would install.
- Under `torchrun --nproc_per_node N -m itl_hf ...` the work is shared; one process speaks.

| exit status | |
|---|---|
| 0 | done |
| 1 | the work failed: no connection, no memory, no room on the disk, a fault of ours |
| 2 | a mistake in options or input; the sentence on stderr says which and what to do |
| 130 | interrupted; embedding goes on where it was when it is started again |
"""


def page() -> str:
    """The whole text."""
    commands = dict(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
    typed = {name: _parameters(command) for name, command in commands.items() if name != "train"}
    return "\n".join([HEAD, _examples(list(commands)), _options(typed), _train()])


def _examples(commands: list[str]) -> str:
    lines = ["## Examples", "", "```sh"]
    for name in (name for name in commands if name in EXAMPLES):
        for why, words in EXAMPLES[name]:
            lines += [f"# {why}", *wrapped(words)]
    return "\n".join([*lines, "```", ""])


def _options(typed: dict[str, list[Any]]) -> str:
    """One table of all options: what each is called, where it is, its default, and what it does."""
    lines = [
        "## Options",
        "",
        "An argument stands without a name. Under other names: after the first, all are understood.",
        "",
        "| option | commands | default | |",
        "|---|---|---|---|",
    ]
    rows: dict[tuple[str, str, str], list[str]] = {}
    for command, parameters in typed.items():
        for one in parameters:
            if one.name not in SHARED and one.name not in ("help", "config"):
                rows.setdefault((_name(one), _default(one), _text(one.help)), []).append(command)
    lines += [
        f"| {name} | {', '.join(commands)} | {default} | {text} |" for (name, default, text), commands in rows.items()
    ]
    config = next(one for one in next(iter(typed.values())) if one.name == "config")
    lines.append(f"| {_name(config)} | all | | {_text(config.help)} |")
    for one in next(iter(typed.values())):
        if one.name in SHARED:
            lines.append(f"| {_name(one)} | all | | {_text(one.help)} |")
    return "\n".join([*lines, ""])


def _train() -> str:
    lines = [
        "## `itl-hf train`",
        "",
        "Takes all options of TRL's `ScriptArguments`, `SFTConfig` and `ModelConfig` under their own names, and these:",
        "",
        "| option | default | |",
        "|---|---|---|",
    ]
    for one in dataclasses.fields(SelectionArguments):
        default = "" if one.default is None or one.default is False else f"`{one.default}`"
        lines.append(f"| `--{one.name}` | {default} | {_text(one.metadata['help'])} |")
    return "\n".join([*lines, ""])


def _parameters(command: Any) -> list[Any]:
    return [one for one in command.params if one.name != "help"]


def _name(one: Any) -> str:
    if one.param_type_name == "argument":
        return f"`{one.make_metavar() if one.metavar is None else one.metavar}`"
    names = sorted([*one.opts, *one.secondary_opts], key=lambda name: (not name.startswith("--"),))
    return " ".join(f"`{name}`" for name in names)


def _default(one: Any) -> str:
    if one.required:
        return "needed"
    default = getattr(one.default, "value", one.default)
    return "" if default is None or default is False or callable(default) else f"`{default}`"


def _text(help_text: str | None) -> str:
    return (help_text or "").replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
