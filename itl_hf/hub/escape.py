"""Escapes text from datasets and models for a Markdown page, so that it is displayed and never interpreted.

Punctuation is replaced by character references, which Markdown and HTML display but do not interpret: no tag, link,
image, table cell, heading, mention or formula can come from a row. The price is that the source of the page is harder
to read.
"""

from __future__ import annotations

import re

from itl_hf.report.text import visible

_PLAIN = re.compile(r"[0-9A-Za-z ,;?%/]|[^\x00-\x7f]")
_NAME = re.compile(r"[\w./+ -]{1,120}", re.ASCII)


class SafeMarkdown(str):
    """Markdown that was written here or is escaped already; it is not escaped again."""


def escape(text: object, length: int = 300) -> SafeMarkdown:
    """Returns a text as one line in which nothing has a meaning in Markdown or HTML.

    Args:
        text (`object`):
            What to display, converted with `str`.
        length (`int`, *optional*, defaults to 300):
            Number of characters of the text to keep.

    Example:
        >>> escape("[a](b) <i>")
        '&#91;a&#93;&#40;b&#41; &#60;i&#62;'
    """
    line = " ".join(visible(str(text)[: 4 * length]).split())
    line = line if len(line) <= length else line[: length - 1].rstrip() + "…"
    return SafeMarkdown("".join(char if _PLAIN.match(char) else f"&#{ord(char)};" for char in line))


def code_span(text: object) -> SafeMarkdown:
    """Returns an ordinary name as Markdown code, and any other text escaped.

    Example:
        >>> code_span("me/model-1.5"), code_span("`rm`")
        ('`me/model-1.5`', '&#96;rm&#96;')
    """
    name = str(text)
    return SafeMarkdown(f"`{name}`") if name.strip() and _NAME.fullmatch(name) else escape(name)


def format_number(value: float, format_spec: str) -> SafeMarkdown:
    """Formats a number; `finalize` would escape its decimal point.

    Example:
        >>> format_number(0.51234, ".2f")
        '0.51'
    """
    return SafeMarkdown(format(value, format_spec))


def finalize(value: object) -> object:
    """Escapes every value that Jinja inserts, except safe Markdown and integers."""
    return value if isinstance(value, SafeMarkdown | int) else escape(value)
