"""Determines how the rows of a data set are read, from its columns and its first row."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from datasets import Json, LargeList, List, Value

from itl_hf.text.column_mapping import ColumnMapping
from itl_hf.text.formats import Format, recognize_format, required_columns
from itl_hf.text.rows import TEXT_COLUMNS

if TYPE_CHECKING:
    from datasets import Dataset

#: Usual names of columns, by what they hold; the likeliest first.
_USUAL_NAMES = {
    "messages": ("messages", "conversations", "conversation", "dialog", "dialogue", "turns", "chat", "history"),
    "prompt": (
        *("prompt", "question", "instruction", "query", "input", "inputs", "problem", "request", "user", "source"),
        *("context", "title", "task", "sentence", "document", "article", "body", "content"),
    ),
    "completion": (
        *("completion", "answer", "response", "output", "targets", "target", "solution", "reply", "assistant"),
        *("chosen", "summary", "label_text", "best_answer", "generation", "result"),
    ),
    "text": ("text", "content", "document", "raw", "body", "article", "sentence", "code"),
}
_MAX_LISTED = 12


def canonical_format(column_names: Sequence[str], row: Mapping[str, Any]) -> Format | None:
    """Returns how rows with the columns of TRL are read; `None` if they have none, or further ones that belong to them.

    In a table of mixed rows every column of text is read, each row in those that it has.
    """
    names = set(column_names)
    read = tuple(name for name in column_names if name in TEXT_COLUMNS)
    if {"prompt", "completion"} <= names:
        return Format("prompt and completion", read)
    if "messages" in names:
        return Format("messages", read)
    if "prompt" in names:
        # `chosen`, `response` and others beside a prompt are its completion.
        return recognize_format(column_names, row) or Format("prompt", read)
    return Format("text", read) if "text" in names else None


def canonical(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns a single row in the columns of TRL, whatever its format; as it is if no format fits.

    Example:
        >>> canonical({"question": "a", "answer": "b"})
        {'prompt': 'a', 'completion': 'b'}
    """
    names = [column for column, value in row.items() if value is not None]
    row_format = canonical_format(names, row) or recognize_format(names, row) or recognize_format(list(row), row)
    return row if row_format is None or row_format.convert is None else row_format.convert(row)


def format_of_columns(dataset: Dataset, columns: ColumnMapping | None = None, name: str = "pool") -> Format:
    """Returns how the rows of a data set are read.

    Args:
        dataset (`Dataset`):
            The rows.
        columns (`ColumnMapping`, *optional*):
            What users say of the columns.
        name (`str`, *optional*, defaults to `"pool"`):
            `"pool"`, `"targets"` or `"exclude"`.

    Raises:
        `ValueError`: If no format fits, or a column that was named is not there.
    """
    names = list(dataset.column_names)
    first_row = dataset[0] if len(dataset) else dict.fromkeys(names)
    is_targets = name != "pool"
    if columns is not None and (not is_targets or columns.fits(names)):
        return columns.format(names, is_targets)
    found_format = canonical_format(names, first_row) or recognize_format(names, first_row)
    if found_format is None:
        text_names = [column for column in names if _may_hold_text(dataset.features[column])]
        raise ValueError(unknown_columns_message(names, name, text_names))
    return found_format


def _may_hold_text(feature: Any) -> bool:
    """Returns whether a column holds texts or structures of them, no numbers or images."""
    if isinstance(feature, dict | list):
        return any(map(_may_hold_text, feature.values() if isinstance(feature, dict) else feature))
    if isinstance(feature, List | LargeList):
        return _may_hold_text(feature.feature)
    return isinstance(feature, Json) or (isinstance(feature, Value) and feature.dtype in ("string", "large_string"))


def unknown_columns_message(column_names: Sequence[str], name: str, text_names: Sequence[str]) -> str:
    """Returns the error about columns that no format has: whose they are, and the two likeliest ways to name them.

    Args:
        column_names (`Sequence[str]`):
            All columns.
        name (`str`):
            `"pool"`, `"targets"` or `"exclude"`.
        text_names (`Sequence[str]`):
            Columns that may hold text.
    """
    names = [str(column) for column in column_names]
    names_text = ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")
    whose = "rows to exclude" if name == "exclude" else name
    option = "targets_columns" if name == "targets" else "columns"
    commands = [
        f"  --{option} {' '.join(f'{part}={column}' for part, column in one.items())}" for one in likely(text_names)
    ]
    near = _nearest_format(names)
    return "\n".join(
        [
            f"no format is known for the columns of the {whose}: {names_text}.{near} Say which column holds what"
            + (", for example:" if commands else f": --{option} prompt=... completion=..."),
            *commands,
            f"In Python: {option}={{'prompt': '...', 'completion': '...'}}. Parts: messages, prompt, completion, "
            "system, text, tools; --prompt_template '{a}\\n{b}' joins several columns.",
        ]
    )


def likely(column_names: Sequence[str]) -> list[dict[str, str]]:
    """Returns the two likeliest mappings of these columns.

    Example:
        >>> likely(["id", "question", "best_answer"])
        [{'prompt': 'question', 'completion': 'best_answer'}, {'text': 'question'}]
    """
    best = {part: _closest(column_names, usual) for part, usual in _USUAL_NAMES.items()}
    mappings: list[dict[str, str]] = []
    if best["messages"] is not None:
        mappings.append({"messages": best["messages"]})
    prompt, completion = best["prompt"], best["completion"]
    if prompt is not None and completion is not None and prompt != completion:
        mappings.append({"prompt": prompt, "completion": completion})
    elif prompt is not None:
        mappings.append({"prompt": prompt})
    for column in (best["text"], prompt, *column_names):
        if column is not None and {"text": column} not in mappings:
            mappings.append({"text": column})
    return mappings[:2]


def _closest(column_names: Sequence[str], usual_names: Sequence[str]) -> str | None:
    """Returns the column with one of these names, or a name that contains one, or one that is spelled like one."""
    by_name = {column.lower(): column for column in reversed(column_names)}
    for usual in usual_names:
        if usual in by_name:
            return by_name[usual]
    for usual in usual_names:
        for lower, column in by_name.items():
            if usual in lower.split("_"):
                return column
    near = [
        match for usual in usual_names[:6] for match in difflib.get_close_matches(usual, list(by_name), n=1, cutoff=0.8)
    ]
    return by_name[near[0]] if near else None


def _nearest_format(names: Sequence[str]) -> str:
    """Names a format of which one column only is missing."""
    for name, must_have in required_columns():
        missing = [column for column in must_have if column not in names]
        if len(must_have) > 2 and len(missing) == 1:
            return f" ({name} would also have {missing[0]!r}.)"
    return ""
