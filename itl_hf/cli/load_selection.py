"""Loads a selection by name: a folder that `itl-hf select` wrote, or a Hub dataset that `itl-hf push` published."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

_REPO_ID = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)

SelectionArgument = Annotated[
    str, typer.Argument(metavar="SELECTION", help="Folder that `itl-hf select` wrote, or user/name on the Hub.")
]


def saved_selection(name: str) -> Selection:
    """Loads the selection from the folder of this name or, if there is none, from the Hub dataset of this name.

    Raises:
        `FileNotFoundError`: If there is neither.
    """
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf.selection.result.selection import Selection

    if Path(name).exists() or not _REPO_ID.fullmatch(name):
        return Selection.load(name)
    return Selection.from_hub(name)
