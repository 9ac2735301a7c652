"""Prepares text from the data for a page: makes hidden characters visible and cuts long texts.

The templates escape HTML; this module does what escaping does not do.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from markupsafe import Markup

from itl_hf.text import plain_text
from itl_hf.text.excerpts import excerpts
from itl_hf.visible import visible as visible_characters

MAX_CHARACTERS = 6_000
EXCERPT_CHARACTERS = 110


def visible(value: Any) -> Any:
    """Replaces control, bidirectional and undecodable characters by visible ones; returns other values unchanged."""
    if not isinstance(value, str):
        return value
    visible_text = visible_characters(value)
    # Markup is only made by this package and is already escaped, so it stays Markup.
    return Markup(visible_text) if isinstance(value, Markup) else visible_text  # nosec B704


def texts(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Returns `prompt` and `completion` of the rows of a list, cut if they are very long, and an `excerpt` of each."""
    pairs = [plain_text(row) for row in rows]
    lines = excerpts([prompt for prompt, _ in pairs], EXCERPT_CHARACTERS)
    return [
        {"prompt": cut(prompt), "completion": cut(completion), "excerpt": line}
        for (prompt, completion), line in zip(pairs, lines, strict=True)
    ]


def cut(text: str) -> str:
    """Returns at most `MAX_CHARACTERS` characters of a text, and says how many more there are."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} […] ({len(text) - MAX_CHARACTERS:,} more characters)"
