"""What a reader of files may raise: an error of this package that names the file, and nothing else.

A reader takes the content of a file. Files with a checksum get the right one, as from somebody who knows the format,
so that what lies behind the check is tried, too.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from itl_hf.embedding.store.atomic_files import DamagedError

#: Errors that readers document. Errors of libraries, many of which derive from them, are none of these.
DOCUMENTED = (ValueError, DamagedError, FileNotFoundError, typer.BadParameter)


class UndocumentedError(AssertionError):
    """A reader raised an error that it does not document, or whose message does not name the file."""


@dataclass(frozen=True)
class Reader:
    """A reader that is tried.

    Args:
        read (`Callable[[bytes, Path], None]`):
            Writes the content into an empty folder and reads it.
        seeds (`Callable[[], list[bytes]]`):
            Contents to begin with.
        words (`tuple[str, ...]`):
            Texts that the format knows.
    """

    read: Callable[[bytes, Path], None]
    seeds: Callable[[], list[bytes]]
    words: tuple[str, ...] = ()


@contextlib.contextmanager
def documented(path: Path) -> Iterator[None]:
    """Lets errors pass that readers document and that name `path`."""
    try:
        yield
    except DOCUMENTED as error:
        message = error.message if isinstance(error, typer.BadParameter) else str(error)
        if type(error) not in DOCUMENTED or str(path) not in message:
            raise UndocumentedError(f"{type(error).__name__}: {error}") from error
    except Exception as error:
        raise UndocumentedError(f"{type(error).__name__}: {error}") from error


def json_object(content: bytes) -> dict[str, Any] | None:
    """Returns the JSON object that the content is; `None` if it is something else."""
    with contextlib.suppress(ValueError, RecursionError):
        values = json.loads(content)
        return values if isinstance(values, dict) else None
    return None
