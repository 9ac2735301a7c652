"""`itl-hf`, and `python -m itl_hf` for `torchrun`: one file per command."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import itl_hf
from itl_hf.cli.select import select

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


app.command(context_settings={"token_normalize_func": normalise})(select)


def main() -> None:
    """Runs the command line; mistakes in the input end in one plain sentence and exit status 2, not in a traceback."""
    try:
        app()
    except (ValueError, TypeError, OSError, ImportError) as error:
        typer.echo(f"itl-hf: {error}", err=True)
        sys.exit(2)
