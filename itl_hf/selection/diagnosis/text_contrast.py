"""What differs between the texts of targets and pool: length, letters, and words that all targets begin or end with.

Only numbers are kept and shown, never the text: the prompts of targets are not published with a selection.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

#: A frame is a beginning or end that at least this share of the targets has, and at most this share of the pool.
TARGETS_WITH_FRAME, POOL_WITH_FRAME = 0.9, 0.05
SHORTEST_FRAME = 8
#: A difference is named if lengths differ by this factor, or shares of letters by this much.
LENGTH_FACTOR, LETTER_SHARE = 2.0, 0.15
#: Letters are counted in this many characters of each text.
COUNTED_CHARACTERS = 2_000


@dataclass(frozen=True)
class TextContrast:
    """The same numbers of targets and of a sample of the pool.

    Args:
        target_length (`float`):
            Median length of the targets' prompts in characters.
        pool_length (`float`):
            The same of the pool's rows.
        target_non_ascii (`float`):
            Share of the targets' letters that are not among a to z and A to Z.
        pool_non_ascii (`float`):
            The same of the pool's rows.
        target_capitals (`float`):
            Share of the targets' letters that are capitals.
        pool_capitals (`float`):
            The same of the pool's rows.
        beginning (`int`):
            Length of the longest text that nine in ten targets begin with.
        pool_beginning (`float`):
            Share of the pool's rows that begin with it.
        ending (`int`):
            Length of the longest text that nine in ten targets end with.
        pool_ending (`float`):
            Share of the pool's rows that end with it.
    """

    target_length: float
    pool_length: float
    target_non_ascii: float
    pool_non_ascii: float
    target_capitals: float
    pool_capitals: float
    beginning: int
    pool_beginning: float
    ending: int
    pool_ending: float

    @classmethod
    def from_texts(cls, targets: Sequence[str], pool: Sequence[str]) -> TextContrast:
        """Compares texts; both lists have at least one.

        Example:
            >>> contrast = TextContrast.from_texts(["Question: one", "Question: two"], ["three", "four"])
            >>> contrast.beginning, contrast.pool_beginning
            (10, 0.0)
        """
        beginning = common_beginning(targets)
        ending = common_beginning([text[::-1] for text in targets])[::-1]
        return cls(
            target_length=float(np.median([len(text) for text in targets])),
            pool_length=float(np.median([len(text) for text in pool])),
            target_non_ascii=_share_of_letters(targets, capitals=False),
            pool_non_ascii=_share_of_letters(pool, capitals=False),
            target_capitals=_share_of_letters(targets, capitals=True),
            pool_capitals=_share_of_letters(pool, capitals=True),
            beginning=len(beginning),
            pool_beginning=float(np.mean([text.startswith(beginning) for text in pool])),
            ending=len(ending),
            pool_ending=float(np.mean([text.endswith(ending) for text in pool])),
        )

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> TextContrast:
        """Reads what `to_json` wrote."""
        return cls(**entries)

    def to_json(self) -> dict[str, float]:
        """All numbers by name."""
        return {name: round(value, 4) for name, value in asdict(self).items()}

    def differences(self) -> list[str]:
        """Names what clearly differs, each as a part of a sentence; empty if nothing does."""
        parts = []
        low, high = sorted((max(self.target_length, 1.0), max(self.pool_length, 1.0)))
        if high >= LENGTH_FACTOR * low:
            parts.append(
                f"the targets' prompts have {self.target_length:,.0f} characters in the median, "
                f"the pool's {self.pool_length:,.0f}"
            )
        for name, target, pool in (
            ("outside a to z", self.target_non_ascii, self.pool_non_ascii),
            ("capitals", self.target_capitals, self.pool_capitals),
        ):
            if abs(target - pool) >= LETTER_SHARE:
                parts.append(f"{target:.0%} of the targets' letters are {name}, and {pool:.0%} of the pool's")
        for verb, length, share in (
            ("begin", self.beginning, self.pool_beginning),
            ("end", self.ending, self.pool_ending),
        ):
            if length >= SHORTEST_FRAME and share <= POOL_WITH_FRAME:
                parts.append(
                    f"{TARGETS_WITH_FRAME:.0%} of the targets or more {verb} with the same {length:,} characters, "
                    f"and {share:.0%} of the pool's rows do"
                )
        return parts


def common_beginning(texts: Sequence[str]) -> str:
    """Returns the longest text that at least nine in ten of the texts begin with."""
    # In sorted order, texts that begin alike stand together, and the first and the last of them share the least.
    in_order = sorted(texts)
    count = max(1, int(np.ceil(TARGETS_WITH_FRAME * len(in_order))))
    pairs = zip(in_order, in_order[count - 1 :], strict=False)
    return max((_common_prefix(first, last) for first, last in pairs), key=len)


def _common_prefix(one: str, other: str) -> str:
    for place, (letter, other_letter) in enumerate(zip(one, other, strict=False)):
        if letter != other_letter:
            return one[:place]
    return one[: len(other)]


def _share_of_letters(texts: Iterable[str], *, capitals: bool) -> float:
    counts = [_letter_counts(text) for text in texts]
    num_hits = sum(count[1 if capitals else 2] for count in counts)
    return num_hits / max(sum(count[0] for count in counts), 1)


@functools.lru_cache(maxsize=4_096)  # the same sample of a pool is compared in each selection from it
def _letter_counts(text: str) -> tuple[int, int, int]:
    """Returns the numbers of letters, of capitals, and of letters other than a to z and A to Z."""
    letters = [letter for letter in text[:COUNTED_CHARACTERS] if letter.isalpha()]
    return len(letters), sum(map(str.isupper, letters)), sum(not letter.isascii() for letter in letters)
