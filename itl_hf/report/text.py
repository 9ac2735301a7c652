"""Text of the data as a page may show it: nothing hidden, nothing reordered, long texts short.

Escaping is the template's; this is what escaping does not do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from itl_hf.text import plain_text

MAX_CHARACTERS = 6_000
EXCERPT_CHARACTERS = (36, 64)

# Invisible, or able to reorder what stands around them: shown by their code point instead of obeyed.
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_HIDDEN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}\ud800-\udfff\ufeff]")


def visible(value: Any) -> Any:
    """Text with control, bidirectional and undecodable characters replaced by visible stand-ins; all else unchanged."""
    if not isinstance(value, str):
        return value
    shown = _HIDDEN.sub(_stand_in, value)
    # Only this package makes Markup, so what is already safe must stay marked as such.
    return Markup(shown) if isinstance(value, Markup) else shown


def texts(row: Mapping[str, Any]) -> dict[str, str]:
    """A row's `prompt` and `completion`, cut where they are very long, and an `excerpt` of a line or two."""
    prompt, completion = plain_text(row)
    return {"prompt": cut(prompt), "completion": cut(completion), "excerpt": excerpt(prompt)}


def excerpt(text: str) -> str:
    """Start and end: prompts of one kind often start alike and differ in their last words."""
    start, end = " ".join(text[:400].split()), " ".join(text[-400:].split())
    if len(text) <= 400 and len(start) <= sum(EXCERPT_CHARACTERS):
        return start
    head, tail = start[: EXCERPT_CHARACTERS[0]], end[-EXCERPT_CHARACTERS[1] :]
    return f"{head.rpartition(' ')[0] or head} … {tail.partition(' ')[2] or tail}"


def cut(text: str) -> str:
    """At most `MAX_CHARACTERS`, and how many more there were."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} […] ({len(text) - MAX_CHARACTERS:,} more characters)"


def _stand_in(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the "control pictures" block
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"\u27e8U+{code:04X}\u27e9"
