"""Converts targets to a dataset that is read in the same way as the pool."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from itl_hf.text.content import is_conversation, plain_text
from itl_hf.text.rows import TEXT_COLUMNS, Row, as_dataset
from itl_hf.text.text_rows import TextRows

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def as_targets(
    targets: Dataset | DatasetDict | Sequence[Row] | Sequence[str], pool: Dataset, split: str | None = None
) -> Dataset:
    """Converts targets to a dataset; plain text becomes user messages if the pool holds conversations.

    Plain text is the same in every form: strings in a list, a tuple, a column or an array, lines of a file, and columns
    `prompt` or `text`. A completion becomes the assistant's message. A chat template changes the features of a text
    more than most differences in content do, so prompts without it could not be compared with a pool that uses it.

    Args:
        targets (`Dataset`, `DatasetDict`, `list[dict]` or `list[str]`):
            The task's prompts.
        pool (`Dataset`):
            The rows that the targets are compared with.
        split (`str`, *optional*):
            Split of a `DatasetDict`.

    Raises:
        `TypeError`: If `targets` is of another kind, or a stream.
        `ValueError`: If there are no targets, the split is unknown, or rows do not fit into one table.

    Example:
        >>> pool = as_dataset([{"messages": [{"role": "user", "content": "Hi"}]}])
        >>> as_targets(["What is 2 + 2?"], pool)[0]
        {'messages': [{'role': 'user', 'content': 'What is 2 + 2?'}]}
    """
    dataset = as_dataset(targets, "targets", split)
    pool_is_chat = _holds_conversations(pool)
    if pool_is_chat and not all(map(is_conversation, TextRows(dataset))):
        return as_dataset([_as_conversation(row) for row in dataset], "targets")
    if not pool_is_chat and _holds_conversations(dataset):
        warnings.warn(
            "the pool holds plain text and the targets conversations: only conversations go through the chat "
            "template, and features differ for that alone, whatever the texts say. Give both as `messages`, or both as "
            "strings.",
            stacklevel=3,
        )
    return dataset


def _holds_conversations(dataset: Dataset) -> bool:
    """Returns whether the first row that is not empty is a conversation."""
    rows, start = TextRows(dataset), 0
    while start < len(rows):
        # One row at first, then twice as many each time: nearly always the first row decides.
        stop = min(2 * start + 1, len(rows))
        for row in rows.read(range(start, stop)):
            if any(row.get(column) for column in ("messages", "prompt", "text")):
                return is_conversation(row)
        start = stop
    return False


def _as_conversation(row: Row) -> Row:
    """Returns the row with a column `messages` in place of plain text; other columns stay."""
    if is_conversation(row):
        return row
    try:
        prompt, completion = plain_text(row)
    except ValueError:  # raised again, with the row's number, when all targets are checked
        return row
    messages = [{"role": "user", "content": prompt}]
    if completion:
        messages.append({"role": "assistant", "content": completion})
    return {"messages": messages, **{name: value for name, value in row.items() if name not in TEXT_COLUMNS}}
