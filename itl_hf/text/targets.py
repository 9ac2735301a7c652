"""Converts targets to a dataset that is read in the same way as the pool."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from itl_hf.text.content import is_conversation
from itl_hf.text.rows import Row, as_dataset

if TYPE_CHECKING:
    from datasets import Dataset, DatasetDict


def as_targets(
    targets: Dataset | DatasetDict | Sequence[Row] | Sequence[str], pool: Dataset, split: str | None = None
) -> Dataset:
    """Converts targets to a dataset; strings become user messages if the pool holds conversations.

    A chat template changes the features of a text more than most differences in content do, so prompts without it could
    not be compared with a pool that uses it.

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
    conversations = is_conversation(pool[0])
    if conversations and isinstance(targets, list) and all(isinstance(target, str) for target in targets):
        targets = [{"messages": [{"role": "user", "content": target}]} for target in targets]
    dataset = as_dataset(targets, "targets", split)
    if is_conversation(dataset[0]) != conversations:
        pool_kind, target_kind = ("conversations", "plain text") if conversations else ("plain text", "conversations")
        warnings.warn(
            f"the pool holds {pool_kind} and the targets {target_kind}: only conversations go through the chat "
            "template, and features differ for that alone, whatever the texts say. Give both as `messages`, or both as "
            "strings.",
            stacklevel=3,
        )
    return dataset
