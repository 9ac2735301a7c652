"""Normalizes texts, so that copies are equal whatever their letter case, Unicode form and white space."""

from __future__ import annotations

import unicodedata


def normalize_text(text: str) -> str:
    r"""Returns the text in NFKC form, case-folded, with single spaces between words.

    Two texts are exact copies of each other if their normalized forms are equal.

    Example:
        >>> normalize_text("What is  2 + 2?\n") == normalize_text("what is 2 + 2?")
        True
    """
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text)
    return " ".join(text.casefold().split())
