"""`itl-hf`, and `python -m itl_hf` for `torchrun`: one file per command."""

from __future__ import annotations

import sys
import warnings
from typing import Annotated, Any

import typer

import itl_hf
from itl_hf.cli import help_groups
from itl_hf.cli.cache import cache
from itl_hf.cli.column_arguments import join_words
from itl_hf.cli.diagnose import diagnose
from itl_hf.cli.doctor import doctor
from itl_hf.cli.embed import embed
from itl_hf.cli.errors import Group, exit_status, sentence
from itl_hf.cli.estimate import estimate
from itl_hf.cli.examples import epilog
from itl_hf.cli.explore import explore
from itl_hf.cli.export import export
from itl_hf.cli.group import join_group
from itl_hf.cli.index import index
from itl_hf.cli.output import with_output
from itl_hf.cli.push import push
from itl_hf.cli.report import report
from itl_hf.cli.select import select
from itl_hf.cli.targets import targets
from itl_hf.cli.train import CONTEXT, TrainCommand, train
from itl_hf.launch import launched_size, run_alone
from itl_hf.visible import visible

HELP_OPTIONS = ["-h", "--help"]
#: Commands that several processes cannot share: under a launcher, process 0 does all of the work.
OF_ONE_PROCESS = frozenset(
    {"targets", "estimate", "report", "explore", "diagnose", "export", "push", "cache", "doctor"}
)
app = typer.Typer(
    name="itl-hf",
    cls=Group,
    help="Choose the right data to fine-tune on: information-based transductive learning for Hugging Face models.",
    epilog="Exit status: 0 done, 1 the work failed, 2 a mistake in options or input, 130 interrupted. "
    "Every command has --help with examples, --json for scripts, and reads --config run.yaml.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP_OPTIONS},
)


def print_version(show: bool) -> None:
    """Prints the version and stops."""
    if show:
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
    """Accepts `--num-examples` for `--num_examples`, the spelling of TRL and of the Python arguments."""
    return token.replace("-", "_")


class Command(help_groups.Command):
    """A command whose `--columns` takes several words."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parses the words of the command line."""
        return super().parse_args(ctx, join_words(args))


for command in (targets, embed, index, estimate, select, report, explore, diagnose, export, push, cache, doctor):
    settings = {"token_normalize_func": normalise, "help_option_names": HELP_OPTIONS}
    app.command(cls=Command, context_settings=settings, epilog=epilog(command.__name__))(with_output(command))
app.command(cls=TrainCommand, context_settings=CONTEXT, epilog=epilog("train"))(train)


def plain_warning(message: Warning | str, category: type[Warning], *where: object, **more: object) -> str:
    """Shows a warning about the user's data as one sentence; other warnings keep the line of code."""
    if category is UserWarning:
        return f"itl-hf: {visible(str(message))}\n"
    return visible(_format_warning(message, category, *where, **more))  # type: ignore[arg-type]


_format_warning = warnings.formatwarning


def main() -> None:
    """Runs the command line. Errors end in one sentence and an exit status, without a traceback."""
    warnings.formatwarning = plain_warning
    name = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    if launched_size() > 1 and name in OF_ONE_PROCESS and not run_alone():
        return
    try:
        with join_group():
            app()
    except (Exception, KeyboardInterrupt) as error:
        typer.echo(f"itl-hf: {sentence(error)}", err=True)
        sys.exit(exit_status(error))
