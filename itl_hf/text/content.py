"""One row, read: which column it uses, what it says, where its completion begins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from itl_hf.text.rows import Row, RowFormat, row_format


@dataclass(frozen=True)
class Parts:
    """A row after validation. Conversations are lists of messages, everything else strings."""

    prompt: str | list[dict[str, Any]]
    completion: str | list[dict[str, Any]] | None
    template_kwargs: dict[str, Any]


def plain_text(row: Row) -> tuple[str, str]:
    """A row as (prompt, completion) for people to read: reports, command lines. Never through a chat template.

    A conversation of one message is its content; a longer one has a line `role: content` for each message. A row
    without a completion gives `""` for it.

    Raises:
        `ValueError`: The row has no text.

    Example:
        >>> plain_text({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]})
        ('Hi', 'Hello')
    """
    parts = read(row, None, with_completion=True)
    return _readable(parts.prompt), _readable(parts.completion or "")


def format_of(row: Row) -> RowFormat:
    """The row's own format: a table of mixed rows has `None` in the columns that a row does not use."""
    filled = [column for column, value in row.items() if value is not None]
    readable = any(column in filled for column in ("messages", "prompt", "text"))
    return row_format(filled if readable else list(row))


def prompt_column(row: Row) -> str:
    """Where the row's prompt is: `messages`, `prompt` or `text`."""
    return format_of(row).removesuffix("-completion")


def is_conversation(row: Row) -> bool:
    """Whether the row's prompt is a list of messages, which goes through the chat template.

    Example:
        >>> is_conversation({"prompt": [{"role": "user", "content": "Hi"}]}), is_conversation({"prompt": "Hi"})
        (True, False)
    """
    return not isinstance(row.get(prompt_column(row)), str)


def read(row: Row, number: int | None, with_completion: bool) -> Parts:
    """Validates a row and splits it into prompt and completion; `number` names it in errors.

    Raises:
        `ValueError`: No text, or content that is not text.
    """
    where = "" if number is None else f"row {number}: "
    kind, column = format_of(row), prompt_column(row)
    prompt = _content(row, column, where)
    if prompt is None:
        raise ValueError(f"{where}column {column!r} is empty. Drop the row or give it text.")
    if kind == "messages":
        return _split_conversation(prompt, row, where, with_completion)
    if kind == "text" and not isinstance(prompt, str):
        raise ValueError(f"{where}column 'text' holds a conversation; rename the column to 'messages'.")
    completion = _content(row, "completion", where) if with_completion and kind == "prompt-completion" else None
    if completion is not None and isinstance(completion, str) is not isinstance(prompt, str):
        raise ValueError(
            f"{where}columns 'prompt' and 'completion' must both be strings or both be lists of messages, got "
            f"{type(prompt).__name__} and {type(completion).__name__}."
        )
    return Parts(prompt, completion, _template_kwargs(row))


def _split_conversation(messages: Any, row: Row, where: str, with_completion: bool) -> Parts:
    if isinstance(messages, str):
        raise ValueError(f"{where}column 'messages' holds a string; rename the column to 'text' or 'prompt'.")
    answered = messages[-1]["role"] == "assistant"
    prompt = messages[:-1] if answered else messages
    if not _has_text(prompt):
        raise ValueError(f"{where}column 'messages' has no text before the assistant's last turn: there is no prompt.")
    completion = messages[-1:] if answered and with_completion and _has_text(messages[-1:]) else None
    return Parts(prompt, completion, _template_kwargs(row))


def _template_kwargs(row: Row) -> dict[str, Any]:
    kwargs = dict(row.get("chat_template_kwargs") or {})
    # `or None` is TRL's: some templates print tool boilerplate for an empty list.
    return {"tools": row.get("tools") or None, **kwargs}


def _content(row: Row, column: str, where: str) -> str | list[dict[str, Any]] | None:
    """A column's text or messages, checked; `None` where it is empty."""
    value = row.get(column)
    if value is None or (isinstance(value, str | list) and not value):
        return None
    if isinstance(value, str):
        return value if value.strip() else None
    if not isinstance(value, list):
        raise ValueError(
            f"{where}column {column!r} must be a string or a list of messages, got {type(value).__name__}. "
            "Convert it with dataset.map first."
        )
    messages = [_message(message, f"{where}column {column!r}, message {i}") for i, message in enumerate(value)]
    return messages if _has_text(messages) else None


def _has_text(messages: Sequence[Row]) -> bool:
    return any(message["content"].strip() or message.get("tool_calls") for message in messages)


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping) or message.get("role") is None:
        raise ValueError(
            f"{where} must be a dict with 'role' and 'content', got {message!r:.80}. "
            "trl.maybe_convert_to_chatml converts the from/value format."
        )
    # One table for all messages fills absent keys with None, which templates would take for present.
    kept = {key: value for key, value in message.items() if value is not None}
    return {**kept, "content": _joined(kept.get("content", ""), where)}


def _joined(content: Any, where: str) -> str:
    if isinstance(content, str):
        return content
    pieces = content if isinstance(content, Iterable) else [content]
    texts = [piece.get("text") if isinstance(piece, Mapping) else None for piece in pieces]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"{where}: content must be a string or a list of {{'type': 'text', 'text': ...}}: only text is read."
        )
    return "".join(cast(list[str], texts))


def _readable(content: str | list[dict[str, Any]]) -> str:
    if isinstance(content, str):
        return content
    if len(content) == 1:
        return str(content[0]["content"])
    return "\n".join(f"{message['role']}: {message['content']}" for message in content)
