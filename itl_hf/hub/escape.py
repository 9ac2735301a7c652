"""Escapes text from datasets and models for a Markdown page, so that it is displayed and never interpreted.

Punctuation that means something in Markdown or HTML at its place is replaced by character references, which are
displayed but not interpreted: no tag, link, image, table cell, heading, mention or formula can come from a row. What
means nothing at its place, such as the period at the end of a sentence, stays, so that the source can be read.
"""

from __future__ import annotations

import re

from itl_hf.report.text import visible

#: Characters that mean something in Markdown or HTML at least somewhere.
_PUNCTUATION = re.compile(r"[^0-9A-Za-z ,;?%/]", re.ASCII)
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
        '&#91;a&#93;(b) &#60;i&#62;'
    """
    line = " ".join(visible(str(text)[: 4 * length]).split())
    line = line if len(line) <= length else line[: length - 1].rstrip() + "…"
    return SafeMarkdown(_PUNCTUATION.sub(_escape_character, line))


def _escape_character(match: re.Match[str]) -> str:
    character, place, line = match[0], match.start(), match.string
    return character if _is_plain(character, place, line) else f"&#{ord(character)};"


def _is_plain(character: str, place: int, line: str) -> bool:
    """Whether a character has no meaning at its place in the line."""
    if not character.isascii():
        return True
    before, after = line[:place], line[place + 1 : place + 2]
    if not before or (before.isdigit() and character in ".)" and after in ("", " ")):
        return False  # lists, headings and rules begin a line
    if character in "\"'()!=+-":  # links and images need square brackets, which are escaped
        return True
    if character in ".:":  # names of domains, schemes and emoji have letters behind them
        return after in ("", " ") or (character == "." and before[-1].isdigit() and after.isdigit())
    return character == "_" and _is_word(before[-1]) and _is_word(after)  # no emphasis within a word


def _is_word(character: str) -> bool:
    return character.isascii() and character.isalnum()


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
