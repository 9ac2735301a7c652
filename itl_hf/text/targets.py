"""Converts targets to a dataset that is read in the same way as the pool."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from itl_hf.text.content import is_conversation, plain_text
from itl_hf.text.rows import TEXT_COLUMNS, Row, as_dataset
from itl_hf.text.text_rows import TextRows

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict

    from itl_hf.text.column_mapping import ColumnMapping


def as_targets(
    targets: Dataset | DatasetDict | Sequence[Row] | Sequence[str],
    pool: Dataset | TextRows,
    split: str | None = None,
    columns: ColumnMapping | None = None,
) -> Dataset:
    """Converts targets to a dataset; plain text becomes user messages if the pool holds conversations.

    Plain text is the same in every form: strings in a list, a tuple, a column or an array, lines of a file, and columns
    `prompt` or `text`. A completion becomes the assistant's message. A chat template changes the features of a text
    more than most differences in content do, so prompts without it could not be compared with a pool that uses it.

    Args:
        targets (`Dataset`, `DatasetDict`, `list[dict]` or `list[str]`):
            The task's prompts.
        pool (`Dataset` or `TextRows`):
            The rows that the targets are compared with.
        split (`str`, *optional*):
            Split of a `DatasetDict`.
        columns (`ColumnMapping`, *optional*):
            Which column of the targets holds which part of a row, if the targets have these columns.

    Raises:
        `TypeError`: If `targets` is of another kind, or a stream.
        `ValueError`: If there are no targets, the split is unknown, or rows do not fit into one table.

    Example:
        >>> pool = as_dataset([{"messages": [{"role": "user", "content": "Hi"}]}])
        >>> as_targets(["What is 2 + 2?"], pool)[0]
        {'messages': [{'role': 'user', 'content': 'What is 2 + 2?'}]}
    """
    dataset = as_dataset(targets, "targets", split)
    rows = TextRows(dataset, columns, "targets")
    pool_is_chat = _holds_conversations(pool if isinstance(pool, TextRows) else TextRows(pool))
    needs_messages = pool_is_chat and not all(map(is_conversation, rows))
    if needs_messages or rows.format.convert is not None:
        dataset = as_dataset(
            [_as_read(row, own, pool_is_chat) for row, own in zip(rows, dataset, strict=True)], "targets"
        )
        rows = TextRows(dataset, None, "targets")
    if not pool_is_chat and _holds_conversations(rows):
        warnings.warn(
            "the pool holds plain text and the targets conversations: only conversations go through the chat "
            "template, and features differ for that alone, whatever the texts say. Give both as `messages`, or both as "
            "strings.",
            stacklevel=3,
        )
    return dataset


def _holds_conversations(rows: TextRows) -> bool:
    """Returns whether the first row that is not empty is a conversation."""
    start = 0
    while start < len(rows):
        # One row at first, then twice as many each time: nearly always the first row decides.
        stop = min(2 * start + 1, len(rows))
        for row in rows.read(range(start, stop)):
            if any(row.get(column) for column in ("messages", "prompt", "text")):
                return is_conversation(row)
        start = stop
    return False


def _as_read(row: Row, own: Row, as_messages: bool) -> Row:
    """Returns the row as it is read, plain text as messages if asked for, with its other columns."""
    others = {name: value for name, value in own.items() if name not in TEXT_COLUMNS}
    return (_as_conversation(row) if as_messages and not is_conversation(row) else dict(row)) | others


def _as_conversation(row: Row) -> dict[str, Any]:
    try:
        prompt, completion = plain_text(row)
    except ValueError:  # raised again, with the row's number, when all targets are checked
        return dict(row)
    messages = [{"role": "user", "content": prompt}]
    if completion:
        messages.append({"role": "assistant", "content": completion})
    return {"messages": messages}
