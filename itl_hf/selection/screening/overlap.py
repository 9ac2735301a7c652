"""Finds texts that are nearly copies of each other.

Exact copies have the same normalized text (`itl_hf.text.normalization`). A text is a near copy of another if it
contains most of the other's own runs of four words. A run that many texts share (the wording of an instruction, a
template) is not counted as any text's own: otherwise two sums with the same wording would count as copies of each
other. What is not found: paraphrases, translations, and copies of which there are more than `MOST_HOLDERS` edited
versions.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain, combinations

from itl_hf.text.normalization import normalize_text

#: Words, single punctuation marks, and single characters of scripts without spaces between words.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+|[^\w\s]|_")
RUN = 4
#: A run that occurs in more than so many of the texts is shared wording.
MOST_HOLDERS = 5
#: A text with fewer runs of its own cannot be compared; only exact copies of it are found.
FEWEST_RUNS = 3
#: Share of a text's own runs that makes a copy. `recipes/benchmarks/screening.py` measures what is found with it.
NEAR = 0.6

Run = tuple[str, ...]


@functools.lru_cache(maxsize=4_096)  # the same sample of a pool is compared in each selection from it
def runs(text: str) -> frozenset[Run]:
    """Returns all runs of `RUN` words of a text; a shorter text is one run.

    Example:
        >>> sorted(runs("a b c d e"))
        [('a', 'b', 'c', 'd'), ('b', 'c', 'd', 'e')]
    """
    words = _WORD.findall(normalize_text(text))
    return frozenset(tuple(words[i : i + RUN]) for i in range(max(1, len(words) - RUN + 1)) if words)


class Corpus:
    """Texts that are compared with each other, and which of their runs are shared wording.

    Args:
        texts (`Mapping[int, str]`):
            Texts by row number, in any order.
        others (`Sequence[str]`, *optional*):
            The texts that `near` is called with; any when left out, which takes longer.

    Example:
        >>> other = "A quick brown fox jumps over the lazy dog."
        >>> corpus = Corpus({0: "the quick brown fox jumps over the lazy dog", 1: "red green blue"}, [other])
        >>> list(corpus.near(other))
        [0]
    """

    def __init__(self, texts: Mapping[int, str], others: Sequence[str] | None = None) -> None:
        self._runs = {number: runs(text) for number, text in texts.items()}
        # Equal texts count once, so that ten copies of a text do not make its runs shared wording.
        distinct_texts = set(self._runs.values())
        holders = Counter(chain.from_iterable(distinct_texts))
        self._shared_runs = {run for run, count in holders.items() if count > MOST_HOLDERS}
        # Only for runs that are looked up: a list for each of all runs takes longer than everything else.
        looked_up_runs = None if others is None else frozenset().union(*map(runs, others))
        self._where = _numbers_by_run(self._runs, looked_up_runs)

    def near(self, text: str) -> dict[int, float]:
        """Returns the texts that contain at least the share `NEAR` of this text's own runs, and the share.

        `text` is one of `others`, if they were given.
        """
        own = runs(text) - self._shared_runs
        if len(own) < FEWEST_RUNS:
            return {}
        counts = Counter(number for run in own for number in self._where.get(run, ()))
        return {number: count / len(own) for number, count in counts.items() if count >= NEAR * len(own)}

    def near_pairs(self, numbers: Sequence[int]) -> list[tuple[int, int, float]]:
        """Returns pairs (i, j, share), `i` before `j` in `numbers`, of texts that are near copies of each other.

        The share is that of the text with more runs of its own: a short text within a long one is no duplicate of it.
        """
        own_runs = {number: self._runs[number] - self._shared_runs for number in numbers}
        own = {number: len(text_runs) for number, text_runs in own_runs.items() if text_runs}
        place = {number: i for i, number in enumerate(own)}
        common: Counter[tuple[int, int]] = Counter()
        for together in _numbers_by_run({number: own_runs[number] for number in own}).values():
            if len(together) > 1:
                common.update(combinations(together, 2))  # in the order of `numbers`
        shares = [(i, j, count / max(FEWEST_RUNS, own[i], own[j])) for (i, j), count in common.items()]
        return sorted((pair for pair in shares if pair[2] >= NEAR), key=lambda pair: (place[pair[0]], place[pair[1]]))


def _numbers_by_run(
    runs_of_texts: Mapping[int, frozenset[Run]], looked_up_runs: frozenset[Run] | None = None
) -> dict[Run, list[int]]:
    """Returns, for all runs or those that are looked up, the numbers of the texts that have them, in their order."""
    where: defaultdict[Run, list[int]] = defaultdict(list)
    for number, text_runs in runs_of_texts.items():
        for run in text_runs if looked_up_runs is None else text_runs & looked_up_runs:
            where[run].append(number)
    return where
