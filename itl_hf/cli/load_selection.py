"""Loads a selection by name: a folder that `itl-hf select` wrote, or a Hub dataset that `itl-hf push` published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

#: What reading a file of other content raises.
_DAMAGES = (KeyError, TypeError, AttributeError, ValueError, RecursionError)
_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)

SelectionArgument = Annotated[
    str, typer.Argument(metavar="SELECTION", help="Folder that `itl-hf select` wrote, or user/name on the Hub.")
]


def saved_selection(name: str) -> Selection:
    """Loads the selection from the folder of this name or, if there is none, from the Hub dataset of this name.

    Raises:
        `FileNotFoundError`: If there is neither.
        `ValueError`: If its files are damaged.
    """
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf.selection.result.selection import Selection

    if Path(name).exists() or not _REPO_ID.fullmatch(name):
        return local_selection(name)
    return Selection.from_hub(name)


def local_selection(name: str) -> Selection:
    """Loads the selection from the folder of this name.

    Raises:
        `FileNotFoundError`: If there is none.
        `ValueError`: If its files are damaged; the message names the folder and says what to do.
    """
    import pyarrow as pa
    from safetensors import SafetensorError

    from itl_hf.embedding.store.atomic_files import DamagedError
    from itl_hf.selection.result.selection import Selection

    if not name.strip():
        raise ValueError("the name of the selection is empty: give the folder that itl-hf select wrote")
    if Path(name).is_file():
        raise NotADirectoryError(f"{name} is a file: give the folder that itl-hf select wrote")
    try:
        return Selection.load(name)
    except (OSError, DamagedError):  # they name the file already
        raise
    except (*_DAMAGES, pa.ArrowException, SafetensorError) as error:
        if isinstance(error, ValueError) and name in str(error):
            raise
        raise ValueError(
            f"{name} holds a damaged selection ({type(error).__name__}: {error}): select again, or take a copy of it"
        ) from error
