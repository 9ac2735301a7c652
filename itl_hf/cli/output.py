"""The output of every command: results on stdout, as text or as one JSON object; everything else on stderr.

A command returns an `Outcome`; `with_output` gives the command the options `--json`, `--quiet` and `--verbose`, and
prints the outcome as they say.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json as json_format
import logging
import os
import re
import sys
import traceback
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from itl_hf.cli.errors import sentence
from itl_hf.visible import visible, visible_json

JsonOption = Annotated[
    bool, typer.Option("--json", help="The result as one JSON object on stdout, all else on stderr.")
]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bars and no messages of libraries.")]
VerboseOption = Annotated[
    bool, typer.Option("--verbose", "-v", help="Show what is done, and the traceback of an error.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry_run", help="Estimate rows, tokens, time, disk and memory from a few batches; do nothing.")
]
SHARED = {"json": JsonOption, "quiet": QuietOption, "verbose": VerboseOption}

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_QUIET = {
    **dict.fromkeys(("TQDM_DISABLE", "HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"), "1"),
    "TRANSFORMERS_VERBOSITY": "error",
}


@dataclass(frozen=True)
class Outcome:
    """The result of a command.

    Args:
        text (`str`):
            For people.
        facts (`dict`):
            For machines, JSON types.
        afterwards (callable, *optional*):
            Called after the output, such as a server that runs until it is stopped.
    """

    text: str
    facts: dict[str, Any] = field(default_factory=dict)
    afterwards: Callable[[], object] | None = None


def with_output(command: Callable[..., Outcome | None]) -> Callable[..., None]:
    """Adds the options of `SHARED` to the command and prints what it returns as they say."""

    @functools.wraps(command)
    def run(*, json: bool = False, quiet: bool = False, verbose: bool = False, **options: Any) -> None:
        with output_of(command.__name__, json=json, quiet=quiet, verbose=verbose) as say:
            say(command(**options))

    hints = typing.get_type_hints(command, include_extras=True)
    own = [one.replace(annotation=hints[name]) for name, one in inspect.signature(command).parameters.items()]
    more = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in SHARED.items()
    ]
    run.__signature__ = inspect.Signature([*own, *more])  # type: ignore[attr-defined]
    run.__annotations__ = {**hints, **SHARED, "return": None}
    return run


@contextlib.contextmanager
def output_of(name: str, *, json: bool, quiet: bool, verbose: bool) -> Iterator[Callable[[Outcome | None], None]]:
    """Context of a running command: sets progress bars and log messages, and prints the outcome at the end.

    It yields the function that takes the outcome. With `json`, everything that a library prints goes to stderr, and an
    error becomes a JSON object, too.
    """
    stdout = sys.stdout
    outcomes: list[Outcome | None] = []
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment(_QUIET if quiet else {}))
        stack.enter_context(_visible_log_records())
        if verbose:
            logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
        if json:
            stack.enter_context(contextlib.redirect_stdout(sys.stderr))
        try:
            yield outcomes.append
        except (Exception, KeyboardInterrupt) as error:
            if json and not isinstance(error, typer.Exit):
                print(json_format.dumps({"command": name, "error": sentence(error)}), file=stdout)
            if verbose and not isinstance(error, typer.Exit):
                say_note(traceback.format_exc())
            if isinstance(error, KeyboardInterrupt):
                say_note(f"itl-hf: {sentence(error)}")
            raise
    for outcome in outcomes:
        if outcome is not None:
            facts = {"command": name, **outcome.facts}
            text = visible_json(json_format.dumps(facts, ensure_ascii=False)) if json else visible(outcome.text)
            typer.echo(text)
            stdout.flush()
            if outcome.afterwards is not None:
                with contextlib.redirect_stdout(sys.stderr if json else stdout):
                    outcome.afterwards()


def say_note(text: str) -> None:
    """Prints a text that is not a result to stderr, without characters that control a terminal."""
    print(visible(text), file=sys.stderr)


def peak_memory() -> int | None:
    """Returns the peak memory of this process in bytes; `None` if the system does not report it."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


@contextlib.contextmanager
def _visible_log_records() -> Iterator[None]:
    """Makes messages of the log visible that hold text of data; those of progress bars do not pass through it."""
    make_record = logging.getLogRecordFactory()

    def visible_record(*arguments: Any, **options: Any) -> logging.LogRecord:
        record = make_record(*arguments, **options)
        with contextlib.suppress(Exception):  # a message that does not fit its arguments is reported by `logging`
            record.msg, record.args = visible(_COLOURS.sub("", record.getMessage())), None
        return record

    logging.setLogRecordFactory(visible_record)
    try:
        yield
    finally:
        logging.setLogRecordFactory(make_record)


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
