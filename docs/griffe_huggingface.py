"""Reads Hugging Face's docstrings: a Griffe extension that hands them on in Google's style.

    name (`type`, *optional*, defaults to `x`):          name (type):
        Sentence.                                 ->         Sentence.

Defaults are taken from the signature. What is in backticks in front of a colon under `Returns:` and `Raises:` becomes a
type, and `Example:` becomes the section that shows `>>>` lines as a Python session.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

ARGUMENT = re.compile(r"^( +)(\*{0,2}\w+) \((.+)\):$", re.MULTILINE)
RESULT = re.compile(r"^( {4})`([^`]+)`:(?= )", re.MULTILINE)


def google_style(docstring: str) -> str:
    """The docstring with types and examples in the form that Google's style has."""
    text = ARGUMENT.sub(lambda m: f"{m[1]}{m[2]} ({_type(m[3])}):", docstring)
    text = RESULT.sub(r"\1\2:", text)
    return re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)


def _type(text: str) -> str:
    """The type alone, as an expression: without backticks, "optional" and the default."""
    kinds = re.split(r",? *\*optional\*|,? defaults to ", text)[0]
    return re.sub(r"`(?:, | or )`", " | ", kinds).replace("`", "")


class HuggingFaceDocstrings(griffe.Extension):
    """Rewrites every docstring before it is parsed."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        """Called for every module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = google_style(obj.docstring.value)
