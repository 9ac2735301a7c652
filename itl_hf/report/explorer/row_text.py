"""The text of rows as the page shows and searches it: prompt and completion, one line, what is under the pointer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from itl_hf.text import TextRows, plain_text
from itl_hf.text.excerpts import excerpt, excerpts, one_line

MAX_CHARACTERS = 20_000
#: Characters of a text in a list, of a text under the pointer, and of the value of a column.
EXCERPT_CHARACTERS, TOOLTIP_CHARACTERS, VALUE_CHARACTERS = 150, 240, 200
NO_TEXT = "(no text)"


def text_of(row: Mapping[str, Any]) -> tuple[str, str]:
    """Returns prompt and completion of a row; both are empty if the row has no text that can be read."""
    try:
        return plain_text(row)
    except ValueError:
        return "", ""


def searched_text(prompt: str, completion: str) -> str:
    """The text of a row that is searched."""
    return search_key(f"{prompt}\n{completion}")


def search_key(text: str) -> str:
    """The form in which texts are compared: without difference between upper and lower case, and valid UTF-8."""
    return text.casefold().strip().encode("utf-8", "replace").decode()


def pool_rows(text_rows: TextRows, numbers: Iterable[int]) -> list[tuple[str, str]]:
    """Returns prompt and completion of rows of the pool, in their order."""
    row_numbers = np.fromiter(numbers, dtype=np.int64)
    if not len(row_numbers):
        return []
    ascending, places = np.unique(row_numbers, return_inverse=True)
    rows = [text_of(row) for row in text_rows.read(ascending)]
    return [rows[place] for place in places]


def row_excerpts(prompts: list[str]) -> list[str]:
    """One line for each row of a list."""
    return [line or NO_TEXT for line in excerpts(prompts, EXCERPT_CHARACTERS)]


def hit_excerpts(texts: list[str], query: str) -> list[str]:
    """One line for each row of a list that contains a text: what is around it, unless that is alike in several rows."""
    around = [_excerpt_around(text, query) for text in texts]
    return [line if around.count(line) == 1 else plain for line, plain in zip(around, row_excerpts(texts), strict=True)]


def _excerpt_around(text: str, query: str) -> str:
    line, key = excerpt(text, EXCERPT_CHARACTERS), search_key(query)
    if key in search_key(line):
        return line
    whole = one_line(text)
    place = whole.casefold().find(one_line(key))  # a few letters are of another length there, which is near enough
    start = max(0, place - EXCERPT_CHARACTERS // 2)
    return line if place < 0 else f"… {whole[start : start + EXCERPT_CHARACTERS]} …"


def tooltip(prompt: str) -> str:
    """What is shown of a row under the pointer."""
    return excerpt(prompt, TOOLTIP_CHARACTERS) or NO_TEXT


def cut(text: str) -> str:
    """Returns at most `MAX_CHARACTERS` characters of a text, and says how many more there are."""
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[:MAX_CHARACTERS]} […] ({len(text) - MAX_CHARACTERS:,} more characters)"


def value_text(value: Any) -> str:
    """Returns the value of a column as one line.

    Example:
        >>> value_text(0.123456789), value_text({"a": 1}), value_text("some words")
        ('0.123457', '{"a": 1}', 'some words')
    """
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    return excerpt(text, VALUE_CHARACTERS)
