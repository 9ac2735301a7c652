"""Targets that are read as the pool is."""

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
    """Targets as a dataset; strings become user messages where the pool holds conversations.

    A chat template changes a text's features more than most differences in content do, so prompts without it would be
    compared with the wrong thing.

    Args:
        targets (`Dataset`, `DatasetDict`, `list[dict]` or `list[str]`):
            The task's prompts.
        pool (`Dataset`):
            The rows they are compared with.
        split (`str`, *optional*):
            Split of a `DatasetDict`.

    Raises:
        TypeError, ValueError: as `as_dataset`.

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
        there, here = ("conversations", "plain text") if conversations else ("plain text", "conversations")
        warnings.warn(
            f"the pool holds {there} and the targets {here}: only conversations go through the chat template, and "
            "features differ for that alone, whatever the texts say. Give both as `messages`, or both as strings.",
            stacklevel=4,
        )
    return dataset
