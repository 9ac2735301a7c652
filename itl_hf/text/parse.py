"""Parses conversations, answers and tools as public data sets write them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

#: Marks before a speaker's text in data sets that store a conversation as one text, such as HH and Glaive.
_MARK = re.compile(r"(?:^|\n)\s*(SYSTEM|USER|HUMAN|ASSISTANT|FUNCTION RESPONSE)\s*:\s?", re.IGNORECASE)
_ROLES = {"human": "user", "function response": "tool"}
_END = "<|endoftext|>"


def parsed_json(value: Any) -> Any:
    """Returns the value of a text that holds a JSON list or object; everything else as it is."""
    if isinstance(value, str) and value.lstrip()[:1] in ("[", "{"):
        try:
            return json.loads(value)
        except (json.JSONDecodeError, RecursionError):  # the latter for thousands of brackets
            return value
    return value


def parsed_messages(value: Any) -> Any:
    """Returns the messages of a text that holds them as JSON; everything else as it is, other JSON as the text it is.

    Example:
        >>> parsed_messages('[{"role": "user", "content": "Hi"}]'), parsed_messages("[3, 1, 2]")
        ([{'role': 'user', 'content': 'Hi'}], '[3, 1, 2]')
    """
    messages = parsed_json(value)
    has_roles = is_message_list(messages) and all("role" in one or "from" in one for one in messages)
    return messages if has_roles else value


def with_parsed_calls(message: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a message whose `tool_calls` are values, also where the data has them as JSON text.

    A template would print a text letter by letter, or nothing.
    """
    calls = parsed_json(message.get("tool_calls"))
    return {**message, "tool_calls": calls} if calls is not None else dict(message)


def is_message_list(value: Any) -> bool:
    """Returns whether this is a list of messages."""
    return isinstance(value, list) and bool(value) and all(isinstance(one, Mapping) for one in value)


def messages_of_turns(turns: Any) -> Any:
    """Returns the messages of a conversation; texts in a list are the turns of user and assistant."""
    if isinstance(turns, list) and turns and all(isinstance(turn, str) for turn in turns):
        return [{"role": ("user", "assistant")[i % 2], "content": turn} for i, turn in enumerate(turns)]
    return turns


def marked_turns(text: Any) -> Any:
    r"""Returns the messages of a conversation in one text, whose turns begin with `Human:`, `ASSISTANT:` and so on.

    Text without such marks is a message of the user.

    Example:
        >>> marked_turns("\n\nHuman: What?\n\nAssistant: That.")
        [{'role': 'user', 'content': 'What?'}, {'role': 'assistant', 'content': 'That.'}]
    """
    if not isinstance(text, str):
        return text
    before, *parts = _MARK.split(text)
    messages = [{"role": "user", "content": before.strip()}] if before.strip() else []
    for mark, content in zip(parts[::2], parts[1::2], strict=True):
        role = _ROLES.get(mark.lower(), mark.lower())
        messages.append({"role": role, "content": content.replace(_END, "").strip()})
    return messages


def answer_and_tools(answers: Any, tools: Any) -> tuple[list[dict[str, Any]], Any]:
    """Returns the assistant's message with its tool calls, and the tools, as chat templates expect them."""
    calls, tools = parsed_json(answers), parsed_json(tools)
    if not isinstance(calls, list):
        return ([{"role": "assistant", "content": calls}] if calls else []), tools
    tool_calls = [{"type": "function", "function": call} for call in calls if isinstance(call, Mapping)]
    message = {"role": "assistant", "content": "", "tool_calls": tool_calls}
    if is_message_list(tools):
        tools = [tool if "function" in tool else {"type": "function", "function": tool} for tool in tools]
    return ([message] if tool_calls else []), tools
