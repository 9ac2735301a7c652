"""Reads a single row: which column it uses, its text, and where its completion begins."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from itl_hf.text.column_types import is_unicode
from itl_hf.text.parse import parsed_json, with_parsed_calls
from itl_hf.text.recognize import canonical
from itl_hf.text.roles import UnknownRoleError, known_role
from itl_hf.text.rows import Row, RowFormat, row_format
from itl_hf.text.template_options import template_options

_SHAREGPT_KEYS = {"from": "role", "value": "content"}
#: Names under which templates know the thoughts of reasoning models.
_THOUGHTS = ("reasoning_content", "thinking")


@dataclass(frozen=True)
class Parts:
    """A row after validation. Conversations are lists of messages, everything else strings.

    Args:
        column (`str`):
            Column of the prompt: `messages`, `prompt` or `text`.
        prompt (`str` or `list[dict]`):
            The prompt.
        completion (`str` or `list[dict]`, *optional*):
            The completion, `None` if there is none or it was not read.
        template_kwargs (`dict`):
            Further arguments of the chat template, such as `tools`.
    """

    column: str
    prompt: str | list[dict[str, Any]]
    completion: str | list[dict[str, Any]] | None
    template_kwargs: dict[str, Any]


def plain_text(row: Row, *, content_only: bool = False) -> tuple[str, str]:
    """Returns a row as (prompt, completion) for people to read, such as in reports, without a chat template.

    A conversation of one message becomes its content; a longer one has a line `role: content` for each message. Calls
    of tools and the thoughts of reasoning models belong to the content. A missing completion becomes `""`.

    Args:
        row (`Row`):
            A row of one of the formats of `row_format`.
        content_only (`bool`, *optional*, defaults to `False`):
            Whether to leave out calls of tools and thoughts.

    Raises:
        `ValueError`: If the row has no text.

    Example:
        >>> plain_text({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]})
        ('Hi', 'Hello')
    """
    parts = read(row, None, with_completion=True)
    return _readable(parts.prompt, content_only), _readable(parts.completion or "", content_only)


def tools_text(row: Row) -> str:
    """Returns the tools that a row offers as JSON; `""` if it offers none.

    Example:
        >>> tools_text({"prompt": "Hi", "tools": [{"name": "sum"}]}), tools_text({"prompt": "Hi", "tools": []})
        ('[{"name": "sum"}]', '')
    """
    tools = parsed_json(canonical(row).get("tools"))
    return _json(tools) if tools else ""


def format_of(row: Row) -> RowFormat:
    """Returns the format of a single row: in a table of mixed rows, columns that a row does not use hold `None`."""
    row = canonical(row)
    nonempty = [column for column, value in row.items() if value is not None]
    has_text = any(column in nonempty for column in ("messages", "prompt", "text"))
    return row_format(nonempty if has_text else list(row))


def is_conversation(row: Row) -> bool:
    """Returns whether the row's prompt is a list of messages, which is rendered with the chat template.

    Example:
        >>> is_conversation({"prompt": [{"role": "user", "content": "Hi"}]}), is_conversation({"prompt": "Hi"})
        (True, False)
    """
    row = canonical(row)
    value = row.get(format_of(row).removesuffix("-completion"))
    return not isinstance(parsed_json(value) if row.get("messages") is value else value, str)


def read(row: Row, number: int | None, with_completion: bool, template_roles: frozenset[str] | None = None) -> Parts:
    """Validates a row and splits it into prompt and completion.

    Args:
        row (`Row`):
            A row of one of the formats of `row_format`.
        number (`int`, *optional*):
            Number of the row in its dataset, for error messages.
        with_completion (`bool`):
            Whether to read the completion.
        template_roles (`frozenset[str]`, *optional*):
            Roles that the chat template names; other roles than these and the usual ones are refused. Without it every
            role is accepted.

    Raises:
        `ValueError`: If the row has no text, content that is not text, or a role that is not known.
    """
    where = "" if number is None else f"row {number}: "
    row = canonical(row)
    kind = format_of(row)
    column = kind.removesuffix("-completion")
    prompt = _content(row, column, where, template_roles)
    completion: str | list[dict[str, Any]] | None = None
    if prompt is None:
        raise ValueError(f"{where}column {column!r} is empty. Drop the row or give it text.")
    if kind == "messages":
        prompt, completion = _split_conversation(prompt, where, with_completion)
    elif kind == "text" and not isinstance(prompt, str):
        raise ValueError(f"{where}column 'text' holds a conversation; rename the column to 'messages'.")
    elif kind == "prompt-completion" and with_completion:
        completion = _content(row, "completion", where, template_roles)
    if completion is not None and isinstance(completion, str) is not isinstance(prompt, str):
        raise ValueError(
            f"{where}columns 'prompt' and 'completion' must both be strings or both be lists of messages, got "
            f"{type(prompt).__name__} and {type(completion).__name__}."
        )
    # `or None` as in TRL: some templates print tool boilerplate for an empty list.
    template_kwargs = {
        "tools": parsed_json(row.get("tools")) or None,
        **template_options(row.get("chat_template_kwargs"), where),
    }
    return Parts(column, prompt, completion, template_kwargs)


def _split_conversation(messages: Any, where: str, with_completion: bool) -> tuple[list[Any], list[Any] | None]:
    """Splits messages into prompt and completion: the last turn, if its role is `assistant`."""
    if isinstance(messages, str):
        raise ValueError(f"{where}column 'messages' holds a string; rename the column to 'text' or 'prompt'.")
    has_answer = messages[-1]["role"] == "assistant"
    prompt = messages[:-1] if has_answer else messages
    if not _has_text(prompt):
        raise ValueError(f"{where}column 'messages' has no text before the assistant's last turn: there is no prompt.")
    return prompt, messages[-1:] if has_answer and with_completion and _has_text(messages[-1:]) else None


def _content(
    row: Row, column: str, where: str, template_roles: frozenset[str] | None
) -> str | list[dict[str, Any]] | None:
    """Returns a column's text or messages after validation; `None` if it is empty."""
    value = parsed_json(row.get(column)) if column == "messages" else row.get(column)
    if value is None or (isinstance(value, str | list) and not value):
        return None
    if isinstance(value, str):
        if not is_unicode(value):
            raise ValueError(f"{where}column {column!r} holds characters that are no Unicode text (lone surrogates).")
        return value if value.strip() else None
    if not isinstance(value, list):
        raise ValueError(
            f"{where}column {column!r} must be a string or a list of messages, got {type(value).__name__}. "
            "Convert it with dataset.map first."
        )
    places = (f"{where}column {column!r}, message {i}" for i in range(len(value)))
    messages = [_message(message, place, template_roles) for message, place in zip(value, places, strict=False)]
    return messages if _has_text(messages) else None


def _has_text(messages: Sequence[Row]) -> bool:
    return any(message["content"].strip() or message.get("tool_calls") for message in messages)


def _message(message: Any, where: str, template_roles: frozenset[str] | None) -> dict[str, Any]:
    """Returns a message with `role` and `content`; `from` and `value`, as in ShareGPT, are other names for them."""
    # One table for all messages holds None for absent keys, which templates would treat as present.
    fields = {key: value for key, value in message.items() if value is not None} if isinstance(message, Mapping) else {}
    if "role" not in fields and "from" in fields:
        fields = {_SHAREGPT_KEYS.get(key, key): value for key, value in fields.items()}
    if "role" not in fields:
        kind = f"the keys {sorted(fields)}" if isinstance(message, Mapping) else f"a {type(message).__name__}"
        raise ValueError(f"{where} must be a dict with 'role' and 'content', or 'from' and 'value'; got {kind}.")
    try:
        role = known_role(fields["role"], template_roles)
    except UnknownRoleError as error:
        raise ValueError(f"{where}: {error}") from error
    fields = with_parsed_calls(fields)
    if not isinstance(fields.get("tool_calls", []), list):
        raise ValueError(f"{where}: tool_calls must be a list of calls, also as JSON text.")
    return {**fields, "role": role, "content": _join_content(fields.get("content", ""), where)}


def _join_content(content: Any, where: str) -> str:
    """Returns the content of a message, a string or a list of text pieces, as one string."""
    if isinstance(content, str):
        return content
    pieces = content if isinstance(content, Iterable) else [content]
    texts = [piece.get("text") if isinstance(piece, Mapping) else None for piece in pieces]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"{where}: content must be a string or a list of {{'type': 'text', 'text': ...}}: only text is read."
        )
    return "".join(cast(list[str], texts))


def _readable(content: str | list[dict[str, Any]], content_only: bool) -> str:
    if isinstance(content, str):
        return content
    texts = [str(message["content"]) if content_only else _message_text(message) for message in content]
    if len(content) == 1:
        return texts[0]
    return "\n".join(f"{message['role']}: {text}" for message, text in zip(content, texts, strict=True))


def _message_text(message: dict[str, Any]) -> str:
    """Returns all text of a message: its thoughts, its content, and its calls of tools, such as `sum({"a": 1})`."""
    thoughts = [message[key] for key in _THOUGHTS if isinstance(message.get(key), str)]
    calls = message.get("tool_calls") or message.get("function_call") or []
    parts = [*thoughts, str(message["content"]), *map(_call_text, calls if isinstance(calls, list) else [calls])]
    return "\n".join(part for part in parts if part.strip())


def _call_text(call: Any) -> str:
    function = call.get("function", call) if isinstance(call, Mapping) else call
    if not isinstance(function, Mapping) or "name" not in function:
        return _json(call)
    arguments = function.get("arguments")
    return f"{function['name']}({arguments if isinstance(arguments, str) else _json(arguments or {})})"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)
