"""`itl-hf`, and `python -m itl_hf` for `torchrun`: one file per command."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated

import typer

import itl_hf
from itl_hf.cli.embed import embed
from itl_hf.cli.explore import explore
from itl_hf.cli.push import push
from itl_hf.cli.select import select
from itl_hf.cli.train import CONTEXT, train

app = typer.Typer(
    name="itl-hf",
    help="Choose the right data to fine-tune on: information-based transductive learning for Hugging Face models.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def print_version(wanted: bool) -> None:
    """Prints the version and stops."""
    if wanted:
        typer.echo(itl_hf.__version__)
        raise typer.Exit()


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=print_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    """Choose the right data to fine-tune on: information-based transductive learning for Hugging Face models."""


def normalise(token: str) -> str:
    """`--num-examples` is taken for `--num_examples`, the spelling of TRL and of the Python arguments."""
    return token.replace("-", "_")


for command in (embed, select, explore, push):
    app.command(context_settings={"token_normalize_func": normalise})(command)
app.command(context_settings=CONTEXT)(train)


def plain_warning(message: Warning | str, category: type[Warning], *where: object, **more: object) -> str:
    """What concerns the user's data is a sentence; what concerns code keeps the line that it is about."""
    if category is UserWarning:
        return f"itl-hf: {message}\n"
    return _format_warning(message, category, *where, **more)  # type: ignore[arg-type]


_format_warning = warnings.formatwarning


def main() -> None:
    """Runs the command line; mistakes in the input end in one plain sentence and exit status 2, not in a traceback."""
    warnings.formatwarning = plain_warning
    try:
        app()
    except (ValueError, TypeError, OSError, ImportError) as error:
        typer.echo(f"itl-hf: {error}", err=True)
        sys.exit(2)
