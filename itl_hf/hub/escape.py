"""Text from datasets and models, made harmless for a Markdown page: shown as it is, never obeyed.

Punctuation becomes character references, which Markdown and HTML show but never read as structure: no tag, link, image,
table cell, heading, mention or formula can come from a row. The price is a source that is less pleasant to read.
"""

from __future__ import annotations

import re

from itl_hf.report.text import visible

_PLAIN = re.compile(r"[0-9A-Za-z ,;?%/]|[^\x00-\x7f]")
_NAME = re.compile(r"[\w./+ -]{1,120}", re.ASCII)


class Safe(str):
    """Markdown made here, not from data: goes into the page as it is."""


def escape(text: object, length: int = 300) -> Safe:
    """One line of at most `length` characters in which nothing means anything to Markdown or HTML.

    Args:
        text (`object`):
            What to show, by its `str`.
        length (`int`, *optional*, defaults to 300):
            Characters of the text to keep.

    Example:
        >>> escape("[a](b) <i>")
        '&#91;a&#93;&#40;b&#41; &#60;i&#62;'
    """
    line = " ".join(visible(str(text)[: 4 * length]).split())
    line = line if len(line) <= length else line[: length - 1].rstrip() + "…"
    return Safe("".join(sign if _PLAIN.match(sign) else f"&#{ord(sign)};" for sign in line))


def code(text: object) -> Safe:
    """A name in the type of code where it is an ordinary one, else escaped text.

    Example:
        >>> code("me/model-1.5"), code("`rm`")
        ('`me/model-1.5`', '&#96;rm&#96;')
    """
    name = str(text)
    return Safe(f"`{name}`") if name.strip() and _NAME.fullmatch(name) else escape(name)


def number(value: float, form: str) -> Safe:
    """A number in this format; `finalize` would take its point for punctuation.

    Example:
        >>> number(0.51234, ".2f")
        '0.51'
    """
    return Safe(format(value, form))


def finalize(value: object) -> object:
    """For Jinja: whatever was not made safe on purpose is escaped."""
    return value if isinstance(value, Safe | int) else escape(value)
