"""Tells a copy with small changes from another text that was written with the same template.

Both have most runs of words in common. They differ in what was changed: a template is filled with other content, that
is with several new words, together or in a row, with other numbers, or with new words at most of the places where
further texts have new words as well. A copy in which several of a few numbers were changed is another problem by this
rule, and is not found. `has_other_content` aligns the words of two texts (longest common blocks, Ratcliff and
Obershelp, as in Python's `difflib`) and looks at the words that were replaced. Words that were only added or left out
do not count.
"""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

#: Longer texts are not aligned: the time grows with the product of their lengths.
MOST_WORDS = 1_000
#: So many replaced words are other content, if they are this share of all words of the text, too.
FEWEST_REPLACED, LEAST_REPLACED_SHARE = 3, 0.1
#: The same for words in a row: edits are scattered, and the place of a template that is filled is not.
LEAST_SHARE_IN_A_ROW = 0.04
#: Share of a text's words and punctuation marks that a copy may lack.
MOST_MISSING = 0.2
#: Share of a text's numbers that are other ones in another problem with the same wording; the smaller one for several
#: numbers, because the wording has numbers, too.
LEAST_NUMBERS, LEAST_SEVERAL_NUMBERS = 0.5, 0.25
#: Share of the places at which further texts differ that is filled anew in another text of the same template.
LEAST_FILLED = 0.5

Words = tuple[str, ...]


@dataclass(frozen=True)
class Replacement:
    """Words of a text that another one has other words for.

    Args:
        places (`tuple[int, ...]`):
            Places of the words in the text.
        old (`tuple[str, ...]`):
            These words, without punctuation.
        new (`tuple[str, ...]`):
            The words that the other text has there, without punctuation.
    """

    places: tuple[int, ...]
    old: Words
    new: Words


@dataclass(frozen=True)
class Alignment:
    """What is left of a text in another one.

    Args:
        replacements (`tuple[Replacement, ...]`):
            What was replaced, in the order of the text.
        missing (`float`):
            Share of the words and punctuation marks that the other text lacks, or has elsewhere.
    """

    replacements: tuple[Replacement, ...] = ()
    missing: float = 0.0


@functools.lru_cache(maxsize=512)
def align(text: Words, other: Words) -> Alignment:
    """Compares a text with another one word by word; changes with only punctuation between them are one.

    Args:
        text (`tuple[str, ...]`):
            Words and punctuation marks of the text.
        other (`tuple[str, ...]`):
            Those of the other text, which may have more before, after and between.

    Returns:
        `Alignment`: The changes; none for texts of more than `MOST_WORDS`.

    Example:
        >>> text, other = tuple("add 2 and 3 now".split()), tuple("please add 7 and 3".split())
        >>> [(one.old, one.new) for one in align(text, other).replacements]
        [(('2',), ('7',))]
    """
    if max(len(text), len(other)) > MOST_WORDS:
        return Alignment()
    operations = difflib.SequenceMatcher(None, text, other, autojunk=False).get_opcodes()
    num_equal = sum(end - start for kind, start, end, _, _ in operations if kind == "equal")
    changes = [(places, new) for places, new in _changes(text, other, operations) if places and new]
    replacements = (Replacement(places, tuple(text[place] for place in places), new) for places, new in changes)
    return Alignment(tuple(replacements), 1 - num_equal / max(1, len(text)))


def _changes(
    text: Words, other: Words, operations: Sequence[tuple[str, int, int, int, int]]
) -> Iterator[tuple[tuple[int, ...], Words]]:
    """Yields the places that were changed in a row, and the new words; either may be empty."""
    places: list[int] = []
    new: list[str] = []
    for kind, start, end, other_start, other_end in operations:
        if kind != "equal":
            places += [place for place in range(start, end) if text[place].isalnum()]
            new += [word for word in other[other_start:other_end] if word.isalnum()]
        elif any(word.isalnum() for word in text[start:end]):
            yield tuple(places), tuple(new)
            places, new = [], []
    yield tuple(places), tuple(new)


def has_other_content(text: Words, other: Words, relatives: Iterable[Words] = ()) -> bool:
    """Returns whether a text with mostly the same wording has other content in it.

    Args:
        text (`tuple[str, ...]`):
            Words and punctuation marks of the text.
        other (`tuple[str, ...]`):
            Those of the text that may be a copy of it.
        relatives (`Iterable[tuple[str, ...]]`, *optional*):
            Further texts with much of the same wording: they show at which places a template is filled.

    Example:
        >>> question = tuple("Is 2054 a leap year ? Answer with Yes or No .".split())
        >>> has_other_content(question, tuple("Is 2035 a leap year ? Answer with Yes or No .".split()))
        True
        >>> has_other_content(question, tuple("Is 2054 a leap year ? Reply with Yes or No .".split()))
        False
    """
    if f" {' '.join(text)} " in f" {' '.join(other)} ":  # much faster than an alignment
        return False
    alignment = align(text, other)
    replacements = alignment.replacements
    if alignment.missing > MOST_MISSING:
        return True
    if _has_other_words(text, replacements):
        return True
    return _has_other_numbers(text, replacements) or _fills_slots(text, replacements, relatives)


def _has_other_words(text: Words, replacements: Sequence[Replacement]) -> bool:
    num_words = sum(word.isalnum() for word in text)
    in_a_row = [_num_words(one.old) for one in replacements]
    least, least_in_a_row = (
        max(FEWEST_REPLACED, share * num_words) for share in (LEAST_REPLACED_SHARE, LEAST_SHARE_IN_A_ROW)
    )
    return sum(in_a_row) >= least or max(in_a_row, default=0.0) >= least_in_a_row


def _num_words(words: Words) -> float:
    """Counts words; of scripts without spaces between them, two characters are one."""
    return sum(0.5 if len(word) == 1 and word > "\u3000" else 1.0 for word in words)


def _has_other_numbers(text: Words, replacements: Sequence[Replacement]) -> bool:
    num_replaced = sum(min(_num_numbers(one.old), _num_numbers(one.new)) for one in replacements)
    least_share = LEAST_SEVERAL_NUMBERS if num_replaced > 1 else LEAST_NUMBERS
    return num_replaced > 0 and num_replaced >= least_share * _num_numbers(text)


def _num_numbers(words: Words) -> int:
    """Counts numbers, also those with letters in them, such as `0xb5` and `1d6`."""
    return sum(word[0].isdecimal() for word in words)


def _fills_slots(text: Words, replacements: Sequence[Replacement], relatives: Iterable[Words]) -> bool:
    """Returns whether most places at which further texts differ were replaced, by yet other words than theirs."""
    new_words = {place: one.new for one in replacements for place in one.places}
    slots: set[int] = set()
    filled_slots: set[int] = set()
    for relative in relatives:
        for one in align(text, relative).replacements:
            slots.update(one.places)
            filled_slots.update(place for place in one.places if new_words.get(place, one.new) != one.new)
    return bool(filled_slots) and len(filled_slots) >= LEAST_FILLED * len(slots)
