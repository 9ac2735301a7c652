"""Turns every error into one sentence that says what is wrong and what to do."""

from __future__ import annotations

import errno

import typer

from itl_hf.cli.joined import tell_others
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
        advice = ": free some space and run the same command again" if error.errno in _DISK_FULL else ""
        return f"{' -> '.join(names)}: {error.strerror}{advice}"
    text = str(getattr(error, "message", None) or error)
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
                tell_others(error)
            if hasattr(error, "format_message") and hasattr(error, "message"):
                error.message = visible(str(error.message))
            raise
