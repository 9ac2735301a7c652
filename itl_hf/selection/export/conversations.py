"""The picked rows as conversations, texts or prompts, from which each trainer's format is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from itl_hf.text import TextRows
from itl_hf.text.content import read
from itl_hf.text.parse import parsed_json

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.text import ColumnMapping

#: Names under which data sets store the thoughts of reasoning models.
THOUGHTS = ("reasoning_content", "thinking")


@dataclass(frozen=True)
class PickedRow:
    """One picked row as trainers read it.

    Args:
        kind (`"text"`, `"pair"` or `"messages"`):
            A text that is learned as a whole; a prompt and its completion, of which only the completion is learned; or
            a conversation, whose answers are learned.
        prompt (`list[dict]`):
            Messages before the answer. A prompt that is a string is one message of the user. Empty for texts.
        answer (`list[dict]`):
            Messages of the answer; empty if there is none.
        text (`str`):
            The text; empty for conversations.
        tools (`list`, *optional*):
            The tools that the row offers.
        pool_index (`int`):
            Row number in the pool.
        weight (`float`, *optional*):
            How much the row counts in training.
    """

    kind: Literal["text", "pair", "messages"]
    prompt: list[dict[str, Any]]
    answer: list[dict[str, Any]]
    text: str
    tools: list[Any] | None
    pool_index: int
    weight: float | None

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The whole conversation."""
        return [*self.prompt, *self.answer]


def picked_rows(
    dataset: Dataset, columns: ColumnMapping | None, weights: list[float] | None
) -> Iterator[PickedRow | ValueError]:
    """Yields each picked row, or the error for one that trainers cannot read.

    Args:
        dataset (`Dataset`):
            The picked rows with the columns of a selection.
        columns (`ColumnMapping`, *optional*):
            Which column holds which part of a row.
        weights (`list[float]`, *optional*):
            (n,), one for each row.

    Raises:
        `ValueError`: If no format fits the columns.
    """
    pool_indices = dataset.with_format(None)["pool_index"][:]
    for number, row in enumerate(TextRows(dataset, columns)):
        weight = None if weights is None else weights[number]
        try:
            yield _picked_row(row, number, pool_indices[number], weight)
        except ValueError as error:
            yield error


def _picked_row(row: Any, number: int, pool_index: int, weight: float | None) -> PickedRow:
    parts = read(row, number, with_completion=True)
    options = sorted(set(parts.template_kwargs) - {"tools"})
    if options:
        raise ValueError(f"it has options of the chat template ({', '.join(options)}), which other trainers set once")
    tools = parts.template_kwargs["tools"]
    if parts.column == "text":
        return PickedRow("text", [], [], str(parts.prompt), tools, pool_index, weight)
    kind: Literal["pair", "messages"] = "messages" if parts.column == "messages" else "pair"
    prompt = _messages(parts.prompt, "user")
    return PickedRow(kind, prompt, _messages(parts.completion, "assistant"), "", tools, pool_index, weight)


def _messages(content: str | list[dict[str, Any]] | None, role: str) -> list[dict[str, Any]]:
    if content is None:
        return []
    return [{"role": role, "content": content}] if isinstance(content, str) else content


def thoughts_of(message: dict[str, Any]) -> str:
    """Returns the thoughts of a message of a reasoning model; `""` if it has none."""
    return next((str(message[key]) for key in THOUGHTS if message.get(key)), "")


def plain_message(message: dict[str, Any], trainer: str) -> dict[str, str]:
    """Returns role and content of a message that has nothing else.

    Args:
        message (`dict`):
            The message.
        trainer (`str`):
            Name of the trainer, for the error.

    Raises:
        `ValueError`: If the message has calls of tools, thoughts or other parts, which would be lost.
    """
    others = sorted(key for key, value in message.items() if key not in ("role", "content") and value)
    if others:
        raise ValueError(f"a message has {', '.join(others)}, which {trainer} does not read: use another format")
    return {"role": str(message["role"]), "content": str(message["content"])}


def need_answer(row: PickedRow) -> None:
    """Raises `ValueError` if a row has nothing to be learned."""
    if row.kind != "text" and not row.answer:
        raise ValueError("it has a prompt and no completion: nothing is to be learned")


def calls_of(message: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the calls of tools in a message as `{"name": ..., "arguments": {...}}`."""
    calls = parsed_json(message.get("tool_calls")) or []
    functions = [call.get("function", call) for call in (calls if isinstance(calls, list) else [calls])]
    if not all(isinstance(function, dict) and "name" in function for function in functions):
        raise ValueError("a call of a tool has no name")
    return [
        {"name": function["name"], "arguments": parsed_json(function.get("arguments") or {})} for function in functions
    ]
