"""`ExportFiles`: what a format writes, and how rows become the contents of files."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from itl_hf.selection.export.conversations import PickedRow


@dataclass(frozen=True)
class ExportFiles:
    """The files of an export.

    Args:
        contents (`dict[str, bytes]`):
            Content of each file by its name, in the order in which they are written.
        usage (`str`):
            What to type to train on them.
        entry (`dict`, *optional*):
            Entry of `dataset_info.json`, for LLaMA-Factory.
    """

    contents: Mapping[str, bytes]
    usage: str
    entry: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class TrainerFormat:
    """How the rows are written for a trainer.

    Args:
        convert (`Callable`):
            Returns the trainer's row for a picked row; raises `ValueError` for one that the trainer cannot hold.
        write (`Callable`):
            Returns the files of the converted rows, given also the picked rows, the folder and the name.
        kinds (`tuple[str, ...]`, *optional*, defaults to all):
            Kinds of rows that the trainer reads.
        takes_weights (`bool`, *optional*, defaults to `False`):
            Whether a row can have a weight.
    """

    convert: Callable[[PickedRow], dict[str, Any]]
    write: Callable[[list[dict[str, Any]], list[PickedRow], Path, str], ExportFiles]
    kinds: tuple[str, ...] = field(default=("text", "pair", "messages"))
    takes_weights: bool = False


def json_bytes(value: Any, indent: int | None = None) -> bytes:
    """Returns a value as JSON in UTF-8.

    Raises:
        `ValueError`: If it holds a number that is not finite, which JSON does not have.
        `TypeError`: If it holds a value of a type that JSON does not have.
    """
    # Lone surrogates are written as escapes, which readers of JSON understand.
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent).encode("utf-8", "backslashreplace")


def json_lines(rows: Iterable[Any]) -> bytes:
    """Returns one JSON value a line."""
    return b"".join(json_bytes(row) + b"\n" for row in rows)


def has_text_rows(rows: list[PickedRow]) -> bool:
    """Returns whether the rows are texts.

    Raises:
        `ValueError`: If some are texts and others conversations, which no trainer reads from one file.
    """
    kinds = {row.kind == "text" for row in rows}
    if len(kinds) > 1:
        raise ValueError(
            "some picked rows are texts and others conversations, which trainers do not read from one file: export as "
            "jsonl, or split the pool by format"
        )
    return kinds == {True}
