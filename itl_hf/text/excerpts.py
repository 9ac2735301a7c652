"""Shortens texts to one line for lists and tables, so that texts of one kind stay distinguishable.

Rows of one kind often begin with the same words and differ in the last ones. An excerpt is therefore cut in the middle,
and of an opening that other texts of the same list share, only its first and last words are kept.
"""

from __future__ import annotations

from collections.abc import Sequence

#: An opening counts as repeated if at least this many texts share at least this many characters of it.
MIN_SHARING_TEXTS, MIN_SHARED_CHARACTERS = 3, 36
#: What is kept of the beginning and of the end of a repeated opening.
OPENING_HEAD, OPENING_TAIL = 20, 24
#: Openings are compared in this many characters of each text.
COMPARED_CHARACTERS = 600
ELLIPSIS = " … "


def excerpt(text: str, length: int = 160, opening: int = 0) -> str:
    r"""Shortens a text to one line of at most `length` characters, cut in the middle.

    Args:
        text (`str`):
            The text; line ends and repeated spaces become single spaces.
        length (`int`, *optional*, defaults to 160):
            Largest number of characters, at least 9.
        opening (`int`, *optional*, defaults to 0):
            Number of characters of the line that other texts share, from `shared_openings`; its middle is left out.

    Example:
        >>> excerpt("Hello,\n  world"), excerpt("Reverse this list of words: apple, river", 24)
        ('Hello, world', 'Reverse … apple, river')
    """
    # A long text is read only where it is shown.
    reach = max(4 * length, COMPARED_CHARACTERS)
    is_long = len(text) > 2 * reach
    line, end = one_line(text[:reach] if is_long else text), one_line(text[-reach:]) if is_long else ""
    if opening >= MIN_SHARED_CHARACTERS and opening <= len(line):
        line = _cut(line[:opening], OPENING_HEAD, OPENING_TAIL) + line[opening:]
    if not is_long and len(line) <= length:
        return line
    room = length - len(ELLIPSIS)
    head = min(2 * room // 5, OPENING_HEAD + OPENING_TAIL)
    return _head(line, head) + ELLIPSIS + _tail(end or line, room - head)


def excerpts(texts: Sequence[str], length: int = 160) -> list[str]:
    """Shortens the texts of one list, `excerpt` of each with the opening that it shares with others of the list.

    Example:
        >>> words = ["apple", "river", "stone"]
        >>> excerpts([f"Restore the correct order of words in the following sentence: {word}" for word in words])[0]
        'Restore the … following sentence: apple'
    """
    openings = shared_openings(texts)
    return [excerpt(text, length, opening) for text, opening in zip(texts, openings, strict=True)]


def shared_openings(texts: Sequence[str]) -> list[int]:
    """Returns how many characters, as one line, each text shares with at least two others; up to a whole word.

    Where there are only two texts, one other is enough.
    """
    lines = [one_line(text[: 2 * COMPARED_CHARACTERS])[:COMPARED_CHARACTERS] for text in texts]
    # In sorted order, the texts that share the longest openings are neighbours.
    order = sorted(range(len(lines)), key=lines.__getitem__)
    count = min(MIN_SHARING_TEXTS, max(len(lines), 2))
    openings = [0] * len(lines)
    for start in range(len(order) - count + 1):
        first, last = lines[order[start]], lines[order[start + count - 1]]
        shared = _shared_words(first, last)
        for number in order[start : start + count]:
            openings[number] = max(openings[number], shared)
    return openings


def one_line(text: str) -> str:
    """Replaces line ends and repeated spaces by single spaces."""
    return " ".join(text.split())


def _shared_words(one: str, other: str) -> int:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one.rfind(" ", 0, length) + 1


def _cut(line: str, head: int, tail: int) -> str:
    """Leaves out the middle of a line, if that makes it shorter; a space at its end stays."""
    short = _head(line, head) + ELLIPSIS + _tail(line, tail)
    return short if len(short) < len(line) else line


def _head(line: str, length: int) -> str:
    """The first `length` characters, up to a whole word if that leaves at least half of them."""
    part = line[:length].rstrip()
    if line[length : length + 1].strip():  # the cut is within a word
        whole = part.rpartition(" ")[0]
        part = whole if len(whole) >= length // 2 else part
    return part.rstrip()


def _tail(line: str, length: int) -> str:
    """The last `length` characters, from a whole word on if that leaves at least half of them."""
    start = max(0, len(line) - length)
    part = line[start:]
    if start and line[start - 1].strip():
        whole = part.partition(" ")[2]
        part = whole if len(whole) >= length // 2 else part
    return part.lstrip()
