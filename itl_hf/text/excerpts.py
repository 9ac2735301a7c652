"""Shortens texts to one line for lists and tables, so that texts of one kind stay distinguishable.

Rows of one kind often begin or end with the same words and differ between them. Of an opening or an ending that other
texts of the same list share, only its first and last words are kept, and less where the line is still too long. Other
texts are cut in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence

#: An opening or ending counts as repeated if at least this many texts share at least this many characters of it.
MIN_SHARING_TEXTS, MIN_SHARED_CHARACTERS = 3, 36
#: What is kept of the beginning and of the end of a repeated opening or ending.
KEPT_HEAD, KEPT_TAIL = 20, 24
#: Openings and endings are compared in this many characters of each text.
COMPARED_CHARACTERS = 600
ELLIPSIS = " … "


def excerpt(text: str, length: int = 160, opening: int = 0, ending: int = 0) -> str:
    r"""Shortens a text to one line of at most `length` characters.

    Args:
        text (`str`):
            The text; line ends and repeated spaces become single spaces.
        length (`int`, *optional*, defaults to 160):
            Largest number of characters, at least 9.
        opening (`int`, *optional*, defaults to 0):
            Number of characters at the beginning of the line that other texts share, from `shared_openings`.
        ending (`int`, *optional*, defaults to 0):
            The same at its end, from `shared_endings`.

    Example:
        >>> excerpt("Hello,\n  world"), excerpt("Reverse this list of words: apple, river", 24)
        ('Hello, world', 'Reverse … apple, river')
    """
    # A long text is read only where it is shown.
    reach = max(4 * length, COMPARED_CHARACTERS)
    is_long = len(text) > 2 * reach
    line = one_line(text[:reach] if is_long else text)
    first, last = (line[:opening], line[len(line) - ending :]) if opening + ending <= len(line) else ("", "")
    first, last = (part if len(part) >= MIN_SHARED_CHARACTERS else "" for part in (first, last))
    middle = line[len(first) : len(line) - (0 if is_long else len(last))]
    if not is_long and len(short_line := _cut(first) + middle + _cut(last)) <= length:
        return short_line
    room = length - len(ELLIPSIS)
    head = min(2 * room // 5, KEPT_HEAD if first else KEPT_HEAD + KEPT_TAIL)
    if last:  # what differs is before it
        start = _head(first, head) + ELLIPSIS if first else ""
        return start + _head(middle, length - len(start) - 2) + " …"
    return _head(line, head) + ELLIPSIS + _tail(one_line(text[-reach:]) if is_long else middle, room - head)


def excerpts(texts: Sequence[str], length: int = 160) -> list[str]:
    """Shortens the texts of one list, `excerpt` of each with what it shares with others of the list.

    Example:
        >>> words = ["apple", "river", "stone"]
        >>> excerpts([f"Restore the correct order of words in the following sentence: {word}" for word in words])[0]
        'Restore the … the following sentence: apple'
    """
    shared = zip(texts, shared_openings(texts), shared_endings(texts), strict=True)
    return [excerpt(text, length, opening, ending) for text, opening, ending in shared]


def shared_openings(texts: Sequence[str]) -> list[int]:
    """Returns how many characters, as one line, each text shares with at least two others; up to a whole word.

    Where there are only two texts, one other is enough.
    """
    return _shared([one_line(text[: 2 * COMPARED_CHARACTERS])[:COMPARED_CHARACTERS] for text in texts])


def shared_endings(texts: Sequence[str]) -> list[int]:
    """Returns the same from the end of the texts."""
    return _shared([one_line(text[-2 * COMPARED_CHARACTERS :])[::-1][:COMPARED_CHARACTERS] for text in texts])


def _shared(lines: list[str]) -> list[int]:
    # In sorted order, the texts that share the longest openings are neighbours.
    order = sorted(range(len(lines)), key=lines.__getitem__)
    count = min(MIN_SHARING_TEXTS, max(len(lines), 2))
    openings = [0] * len(lines)
    for start in range(len(order) - count + 1):
        shared = _shared_words(lines[order[start]], lines[order[start + count - 1]])
        for number in order[start : start + count]:
            openings[number] = max(openings[number], shared)
    return openings


def one_line(text: str) -> str:
    """Replaces line ends and repeated spaces by single spaces."""
    return " ".join(text.split())


def _shared_words(one: str, other: str) -> int:
    length = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    return one.rfind(" ", 0, length) + 1


def _cut(part: str) -> str:
    """Leaves out the middle of a repeated opening or ending, if that makes it shorter; spaces at its ends stay."""
    left, right = part[: len(part) - len(part.lstrip())], part[len(part.rstrip()) :]
    short = f"{left}{_head(part.strip(), KEPT_HEAD)}{ELLIPSIS}{_tail(part.strip(), KEPT_TAIL)}{right}"
    return short if len(short) < len(part) else part


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
