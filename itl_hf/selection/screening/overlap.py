"""Whether one text says what another says: exactly, or nearly.

Exactly: the same words and signs, letter case, Unicode form and white space aside. Nearly: most of the runs of four
words that are a text's own stand in the other text too. A run that many texts share (an instruction's wording, a
template) is nobody's own: without this rule any two sums with the same wording would count as copies of each other.
What it cannot see: paraphrase, translation, and copies of which more than `MOST_HOLDERS` edited versions are around.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations

from itl_hf.text.normalization import normalize_text

#: Words, single signs, and single characters of scripts that put no spaces between words.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+|[^\w\s]|_")
RUN = 4
#: A run that more than so many of the texts looked at hold is wording that they share.
MOST_HOLDERS = 5
#: With fewer runs of its own a text says too little to be told from another: only exact copies count.
FEWEST_RUNS = 3
#: Share of its own runs that makes a copy. `recipes/benchmarks/screening.py` measures what that finds and what not.
NEAR = 0.6

Run = tuple[str, ...]


def runs(text: str) -> set[Run]:
    """All runs of `RUN` words of a text; of a shorter text the whole.

    Example:
        >>> sorted(runs("a b c d e"))
        [('a', 'b', 'c', 'd'), ('b', 'c', 'd', 'e')]
    """
    words = _WORD.findall(normalize_text(text))
    return {tuple(words[i : i + RUN]) for i in range(max(1, len(words) - RUN + 1))} if words else set()


class Corpus:
    """Texts that are looked at together, and which of their runs are shared wording.

    Args:
        texts (`Mapping[int, str]`):
            By number, in any order.

    Example:
        >>> corpus = Corpus({0: "the quick brown fox jumps over the lazy dog", 1: "red green blue"})
        >>> list(corpus.near("A quick brown fox jumps over the lazy dog."))
        [0]
    """

    def __init__(self, texts: Mapping[int, str]) -> None:
        self._runs = {number: runs(text) for number, text in texts.items()}
        # Equal texts count once: the tenth copy of a text does not make its words anybody's wording.
        holders = Counter(run for found in {frozenset(found) for found in self._runs.values()} for run in found)
        self._shared = {run for run, count in holders.items() if count > MOST_HOLDERS}
        self._where: defaultdict[Run, list[int]] = defaultdict(list)
        for number, found in self._runs.items():
            for run in found - self._shared:
                self._where[run].append(number)

    def near(self, text: str) -> dict[int, float]:
        """Texts that hold at least `NEAR` of the runs that are this text's own, and what share of them."""
        own = runs(text) - self._shared
        if len(own) < FEWEST_RUNS:
            return {}
        counts = Counter(number for run in own for number in self._where.get(run, ()))
        return {number: count / len(own) for number, count in counts.items() if count >= NEAR * len(own)}

    def near_pairs(self, numbers: Sequence[int]) -> list[tuple[int, int, float]]:
        """Pairs (i, j, share), i before j in `numbers`, of texts of which each nearly says what the other says.

        The share is that of the one with more runs of its own: a short text within a long one is no duplicate of it.
        """
        own = {number: len(found) for number in numbers if len(found := self._runs[number] - self._shared)}
        place = {number: i for i, number in enumerate(own)}
        common: Counter[tuple[int, int]] = Counter()
        for together in self._where.values():
            among = sorted((number for number in together if number in own), key=lambda number: place[number])
            common.update(combinations(among, 2))
        shares = [(i, j, count / max(FEWEST_RUNS, own[i], own[j])) for (i, j), count in common.items()]
        return sorted((pair for pair in shares if pair[2] >= NEAR), key=lambda pair: (place[pair[0]], place[pair[1]]))
