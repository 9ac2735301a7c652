"""Finds rows of different text that a model reads as the same tokens.

A chat template may leave out what distinguishes two rows, and rows with a long common beginning, such as a system
prompt or a list of tools, may be the same up to `max_length`. Selection cannot choose between such rows, and nothing
else would show it.
"""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np

_current: ContextVar[AlikeRows | None] = ContextVar("alike_rows", default=None)


class AlikeRows:
    """Collects a key of each row's text and of what the model reads of it: 20 bytes a row.

    Example:
        >>> alike = AlikeRows()
        >>> for number, (text, tokens) in enumerate([("a", "<x>"), ("b", "<x>"), ("c", "<c>")]):
        ...     alike.add(number, text, tokens, is_cut=False)
        >>> print(alike.message().partition(":")[0])
        2 rows of different text are read as 1 (the first two are rows 0 and 1)
    """

    def __init__(self) -> None:
        self._rows, self._texts, self._readings = array("q"), array("q"), array("q")
        self._cut = array("b")
        self.max_length: int | None = None

    def add(self, row: int, text: Any, reading: Any, is_cut: bool) -> None:
        """Takes a row into account.

        Args:
            row (`int`):
                Its number.
            text:
                Its text as it is read, in JSON types.
            reading:
                What the model reads of it, in JSON types: the rendered text, or token ids.
            is_cut (`bool`):
                Whether `reading` was cut at the tokenizer's `max_length`.
        """
        self._rows.append(row)
        self._texts.append(_key(text))
        self._readings.append(_key(reading))
        self._cut.append(is_cut)

    def exchange(self, of_all: Callable[[np.ndarray], np.ndarray]) -> None:
        """Takes over what the other processes collected.

        Args:
            of_all (`Callable`):
                Returns the rows of an int64 array of all processes, in their order.
        """
        own = np.array([self._rows, self._texts, self._readings, self._cut], dtype=np.int64).T  # (N, 4)
        columns = np.ascontiguousarray(of_all(own).T)
        self._rows, self._texts, self._readings = (array("q", column.tobytes()) for column in columns[:3])
        self._cut = array("b", columns[3].astype(np.int8).tobytes())
        max_length = int(of_all(np.array([self.max_length or 0])).max())
        self.max_length = max_length or None

    def groups(self) -> list[tuple[np.ndarray, bool]]:
        """Returns each set of rows of different text that are read alike, and whether they were cut.

        Of rows with equal text, only the first counts.
        """
        if not self._rows:
            return []
        keys = np.array([self._readings, self._texts], dtype=np.int64)  # (2, N)
        distinct = np.unique(keys, axis=1, return_index=True)[1]  # (M,) ordered by reading
        readings = keys[0, distinct]
        starts = np.flatnonzero(np.r_[True, readings[1:] != readings[:-1]])
        parts = np.split(distinct, starts[1:])
        numbers, cut = np.asarray(self._rows), np.asarray(self._cut)
        return [(np.sort(numbers[part]), bool(cut[part].any())) for part in parts if len(part) > 1]

    def message(self) -> str | None:
        """Returns what to tell users; `None` if every text is read differently."""
        groups = self.groups()
        reasons = {
            True: f"they differ only beyond max_length={self.max_length} tokens. Raise max_length, or shorten what "
            "they share, such as a system prompt",
            False: "the chat template leaves out what they differ in. Look at "
            "tokenizer.apply_chat_template(row['messages'], tokenize=False)",
        }
        sentences = []
        for is_cut, reason in reasons.items():
            rows = [numbers for numbers, cut in groups if cut is is_cut]
            if rows:
                first = min(rows, key=lambda numbers: int(numbers[1]))
                sentences.append(
                    f"{sum(map(len, rows))} rows of different text are read as {len(rows)} (the first two are rows "
                    f"{first[0]} and {first[1]}): {reason}."
                )
        return " ".join(sentences) or None


@contextmanager
def collect_alike_rows() -> Iterator[AlikeRows]:
    """Collects the rows that tokenizers of this package check within the context."""
    alike = AlikeRows()
    token = _current.set(alike)
    try:
        yield alike
    finally:
        _current.reset(token)


def current_collector() -> AlikeRows | None:
    """Returns the collector of the context, if there is one."""
    return _current.get()


def _key(value: Any) -> int:
    text = json.dumps(value, sort_keys=True, default=repr)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)
