"""Prepares text from the data for a page: makes hidden characters visible and cuts long texts.

The templates escape HTML; this module does what escaping does not do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from itl_hf.text import plain_text
from itl_hf.visible import visible as visible_characters

MAX_CHARACTERS = 6_000
EXCERPT_CHARACTERS = (36, 64)


def visible(value: Any) -> Any:
    """Replaces control, bidirectional and undecodable characters by visible ones; returns other values unchanged."""
    if not isinstance(value, str):
        return value
    visible_text = visible_characters(value)
    # Markup is only made by this package and is already escaped, so it stays Markup.
    return Markup(visible_text) if isinstance(value, Markup) else visible_text  # nosec B704


def texts(row: Mapping[str, Any]) -> dict[str, str]:
    """Returns `prompt` and `completion` of a row, cut if they are very long, and an `excerpt` of one or two lines."""
    prompt, completion = plain_text(row)
    return {"prompt": cut(prompt), "completion": cut(completion), "excerpt": excerpt(prompt)}


def excerpt(text: str) -> str:
    """Returns start and end of a text, since similar prompts often start with the same words and differ at the end."""
    start, end = " ".join(text[:400].split()), " ".join(text[-400:].split())
    if len(text) <= 400 and len(start) <= sum(EXCERPT_CHARACTERS):
        return start
    head, tail = start[: EXCERPT_CHARACTERS[0]], end[-EXCERPT_CHARACTERS[1] :]
    return f"{head.rpartition(' ')[0] or head} … {tail.partition(' ')[2] or tail}"


def cut(text: str) -> str:
    """Returns at most `MAX_CHARACTERS` characters of a text, and says how many more there are."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} […] ({len(text) - MAX_CHARACTERS:,} more characters)"
