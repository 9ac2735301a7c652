"""Turns every error into one sentence that says what is wrong and what to do."""

from __future__ import annotations

import errno
import os

import typer

from itl_hf.cli.group import publish_failure
from itl_hf.visible import visible

#: Exit statuses, as `docs/command_line.md` explains them.
DONE, FAILED, MISTAKE, INTERRUPTED = 0, 1, 2, 130
#: Errors that users can correct: in the input, the options, or what is installed.
MISTAKES = (
    *(ValueError, TypeError, ImportError),
    *(FileNotFoundError, FileExistsError, IsADirectoryError, NotADirectoryError, PermissionError),
)
#: Errors with which libraries report a mistake or a failure. Others are faults of this package.
FORESEEN = (*MISTAKES, OSError, EOFError, MemoryError, RuntimeError, OverflowError, FloatingPointError)
_OUT_OF_MEMORY = (
    "out of memory: lower --batch_tokens or --max_length, take a smaller model, or a GPU or machine with more"
)
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
#: In messages of libraries that say in other words that a file could not be written to its end: safetensors, torch.
_CUT_FILE = (os.strerror(errno.ENOSPC), "PytorchStreamWriter failed writing", ". unexpected pos ")


def exit_status(error: BaseException) -> int:
    """Returns 2 for errors that users can correct, 1 for work that failed: no connection, no memory, a full disk."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    return MISTAKE if isinstance(error, MISTAKES) else FAILED


def sentence(error: BaseException) -> str:
    """Returns what to print for an error, without characters that control a terminal.

    Example:
        >>> sentence(FileNotFoundError(2, "No such file or directory", "pool.jsonl"))
        'pool.jsonl: No such file or directory'
    """
    return visible(_sentence(error)).strip()


def _sentence(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted; what was finished and stored is kept"
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorError"):
        return _OUT_OF_MEMORY + (f" ({error})" if str(error) else "")
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        names = [str(name) for name in (error.filename, error.filename2) if name is not None]
        is_full = error.errno in _DISK_FULL and "ree some space" not in error.strerror
        advice = ": free some space and run the same command again" if is_full else ""
        return f"{' -> '.join(names)}: {error.strerror}{advice}"
    text = str(getattr(error, "message", None) or error)
    if getattr(error, "errno", None) in _DISK_FULL or any(mark in text for mark in _CUT_FILE):
        return f"no room left on the disk: free some space and run the same command again ({text})"
    if is_foreseen(error):
        return text or type(error).__name__
    return (
        f"unexpected {type(error).__name__}{f': {text}' if text else ''}. This should have been a sentence that says "
        "what is wrong: please report it with the output of --verbose"
    )


def is_foreseen(error: BaseException) -> bool:
    """Whether an error is of a kind that says what is wrong, and not a fault of this package."""
    return isinstance(error, FORESEEN) or type(error).__module__.split(".")[0] in ("safetensors", "pyarrow", "typer")


class Group(typer.core.TyperGroup):
    """The commands, whose errors about options have no characters that control a terminal."""

    def invoke(self, ctx: typer.Context) -> object:  # type: ignore[override]
        """Runs the command that was asked for."""
        try:
            return super().invoke(ctx)
        except Exception as error:
            if not isinstance(error, typer.Exit):
                publish_failure(error)
            if hasattr(error, "format_message") and hasattr(error, "message"):
                error.message = visible(str(error.message))
            raise
