"""Makes characters visible that would control a terminal or hide and reorder the text around them.

Text from datasets, models and files may hold sequences that move the cursor, set the title of the window, write to the
clipboard (OSC 52), or turn the order of letters around. Wherever such text is printed it passes through `visible`.
"""

from __future__ import annotations

import re

# Characters that are invisible or change the order of the text around them: their code point is shown instead.
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_SEPARATORS_AND_TAGS = "\u2028\u2029\ufeff\U000e0000-\U000e007f"
_HIDDEN = re.compile(f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_BIDI}{_SEPARATORS_AND_TAGS}\ud800-\udfff]")


def visible(text: str) -> str:
    r"""Replaces control, bidirectional and undecodable characters by visible ones; keeps line ends and tabs.

    Example:
        >>> visible("a\x1b]0;title\x07b\u202ec")
        'a␛]0;title␇b⟨U+202E⟩c'
    """
    return _HIDDEN.sub(_visible_character, text)


def visible_json(text: str) -> str:
    r"""Escapes the same characters in JSON, where they occur within strings only.

    Example:
        >>> print(visible_json('{"a": "b\u202ec"}'))
        {"a": "b\u202ec"}
    """
    return _HIDDEN.sub(_json_escape, text)


def _visible_character(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the "control pictures" block
    return "\ufffd" if 0xD800 <= code <= 0xDFFF else f"\u27e8U+{code:04X}\u27e9"


def _json_escape(match: re.Match[str]) -> str:
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
