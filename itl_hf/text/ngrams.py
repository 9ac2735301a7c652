"""Which rows share a run of words with texts that must not be trained on, such as a benchmark's test questions.

Runs of 13 words are the criterion of GPT-3 (Brown et al. 2020, appendix C).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from itl_hf.text.normalization import normalize_text

DEFAULT_LENGTH = 13
_WORD = re.compile(r"\w+")
#: Texts of fewer words are too common to show that a row is a copy.
_FEWEST_WORDS = 4


@dataclass(frozen=True)
class Overlap:
    """A row that shares a run of words with a text.

    Args:
        row (`int`):
            Number of the row.
        text (`int`):
            Number of the text.
        words (`str`):
            The run of words, normalized.
    """

    row: int
    text: int
    words: str


class NgramScreen:
    """Finds rows that share `length` successive words with one of the texts.

    Letter case, Unicode form, white space and punctuation do not count. A text of fewer words than `length` is looked
    for as a whole; one of fewer than four words is not.

    Args:
        texts (`Iterable[str]`):
            Texts that must not be in the rows.
        length (`int`, *optional*, defaults to 13):
            Words of a run.

    Raises:
        `ValueError`: If the length is below 4.

    Example:
        >>> screen = NgramScreen(["How many apples are left in the basket of Ann?"], length=5)
        >>> [overlap.words for overlap in screen.overlaps(["He asks: how many apples, are left. Why?", "No."])]
        ['how many apples are left']
    """

    def __init__(self, texts: Iterable[str], length: int = DEFAULT_LENGTH) -> None:
        if length < _FEWEST_WORDS:
            raise ValueError(f"a run of {length} words shows nothing: give a length of at least {_FEWEST_WORDS}")
        self._texts: dict[tuple[str, ...], int] = {}
        self.num_too_short = 0
        for number, text in enumerate(texts):
            words = _words(text)
            if len(words) < _FEWEST_WORDS:
                self.num_too_short += 1
                continue
            for run in _runs(words, min(length, len(words))):
                self._texts.setdefault(run, number)
        self._lengths = sorted({len(run) for run in self._texts}, reverse=True)

    def overlaps(self, rows: Iterable[str]) -> Iterator[Overlap]:
        """Yields the rows that share a run with a text, each with its longest run.

        Args:
            rows (`Iterable[str]`):
                Texts of the rows.
        """
        for number, row in enumerate(rows):
            words = _words(row)
            runs = (run for length in self._lengths for run in _runs(words, length) if run in self._texts)
            shared = next(runs, None)
            if shared is not None:
                yield Overlap(number, self._texts[shared], " ".join(shared))


def _words(text: str) -> list[str]:
    return _WORD.findall(normalize_text(text))


def _runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    return (tuple(words[start : start + length]) for start in range(len(words) - length + 1))
