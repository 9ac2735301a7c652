"""Finds texts that are nearly copies of each other.

Exact copies have the same normalized text (`itl_hf.text.normalization`). A text is a near copy of another if it
contains most of the other's own runs of four words, or all of its words in a row, and does not fill the same wording
with other content (`alignment.py`). A run that many texts share (the wording of an instruction, a template) is not
counted as any text's own: otherwise two sums with the same wording would count as copies of each other. The texts that
may be copies and those that they may be copies of are counted together. What is not found: paraphrases, translations,
and copies of which there are more than `MOST_HOLDERS` edited versions.
"""

from __future__ import annotations

import functools
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import chain, combinations

from itl_hf.selection.screening.alignment import Words, has_other_content
from itl_hf.text.normalization import normalize_text

#: Words, punctuation marks (equal ones in a row are one), and single characters of scripts without spaces.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+|([^\w\s]|_)\1*")
RUN = 4
#: A run that occurs in more than so many of the texts is shared wording.
MOST_HOLDERS = 5
#: A text with fewer runs of its own cannot be compared; only texts that contain it are found.
FEWEST_RUNS = 3
#: Share of a text's own runs that makes a copy. `recipes/benchmarks/screening.py` measures what is found with it.
NEAR = 0.6
#: Share of a text's own runs of texts that may have the same template, and the most that are compared.
RELATED, MOST_RELATIVES = 0.3, 10
#: A text of fewer words is contained in others by chance.
FEWEST_WORDS = 7

Run = Words


@functools.lru_cache(maxsize=4_096)  # the same sample of a pool is compared in each selection from it
def words_of(text: str) -> Words:
    """Returns the words and punctuation marks of a text after normalization."""
    return tuple(match[0] for match in _WORD.finditer(normalize_text(text)))


def runs_of(words: Words, relevant_runs: Set[Run] | None = None) -> set[Run]:
    """Returns all runs of `RUN` words, or those that are relevant; fewer words are one run."""
    all_runs = (words[i : i + RUN] for i in range(max(1, len(words) - RUN + 1)) if words)
    return set(all_runs) if relevant_runs is None else {run for run in all_runs if run in relevant_runs}


def runs(text: str) -> set[Run]:
    """Returns all runs of `RUN` words of a text; a shorter text is one run.

    Example:
        >>> sorted(runs("a b c d e"))
        [('a', 'b', 'c', 'd'), ('b', 'c', 'd', 'e')]
    """
    return runs_of(words_of(text))


def shared_runs(texts: Iterable[str], others: Sequence[str]) -> frozenset[Run]:
    """Returns those runs of `others` that more than `MOST_HOLDERS` of the texts and the others have.

    Args:
        texts (`Iterable[str]`):
            Any number of texts, which are read once; equal ones count once.
        others (`Sequence[str]`):
            The texts whose runs are counted.

    Example:
        >>> texts = [f"what is the sum of {i} and 2" for i in range(9)]
        >>> len(shared_runs(texts, ["what is the sum of 40 and 50"]))
        2
    """
    other_runs = {frozenset(runs(text)) for text in others}
    holders = Counter(run for text_runs in other_runs for run in text_runs)
    relevant_runs, read_texts = set(holders), {hash(text_runs) for text_runs in other_runs}
    for text in texts:
        text_runs = frozenset(runs(text))
        if (key := hash(text_runs)) not in read_texts:
            read_texts.add(key)
            holders.update(text_runs & relevant_runs)
    return frozenset(run for run, count in holders.items() if count > MOST_HOLDERS)


class Corpus:
    """Texts that are compared with each other, and which of their runs are shared wording.

    Args:
        texts (`Mapping[int, str]`):
            Texts by row number, in any order.
        others (`Sequence[str]`, *optional*):
            Further texts that these may be copies of. Wording that they share, among each other too, is shared wording.
        shared (`Set`, *optional*):
            Runs that are shared wording for reasons that these texts do not show.
        only (`Iterable[int]`, *optional*):
            Numbers of the texts that `near_pairs` is asked for; `near` is then asked for `others`. Only their runs are
            kept, which is much faster for many texts. Left out, all runs are kept.

    Example:
        >>> corpus = Corpus({0: "the quick brown fox jumps over the lazy dog", 1: "red green blue"})
        >>> list(corpus.near("A quick brown fox jumps over the lazy dog."))
        [0]
    """

    def __init__(
        self,
        texts: Mapping[int, str],
        others: Sequence[str] = (),
        shared: Set[Run] = frozenset(),
        only: Iterable[int] | None = None,
    ) -> None:
        self._words = {number: words_of(text) for number, text in texts.items()}
        # Further texts have negative numbers; equal ones are one.
        self._words |= {-1 - i: words for i, words in enumerate(dict.fromkeys(map(words_of, others)))}
        relevant_runs: set[Run] | None = None
        if only is not None:
            numbers = {*only, *(number for number in self._words if number < 0)}
            relevant_runs = set[Run]().union(*(runs_of(self._words[number]) for number in numbers))
        self._runs = {number: runs_of(words, relevant_runs) for number, words in self._words.items()}
        # Equal texts count once, so that ten copies of a text do not make its runs shared wording.
        distinct_texts = {words: self._runs[number] for number, words in self._words.items()}
        self._holders = Counter(chain.from_iterable(distinct_texts.values()))
        self._shared_runs = {run for run, count in self._holders.items() if count > MOST_HOLDERS or run in shared}
        self._where: defaultdict[Run, list[int]] = defaultdict(list)
        for number, text_runs in self._runs.items():
            for run in text_runs:
                self._where[run].append(number)

    def near(self, text: str) -> dict[int, float]:
        """Returns the texts that are near copies of this one, each with the share of its own runs that they contain."""
        words = words_of(text)
        own = runs_of(words) - self._shared_runs
        counts = Counter(number for run in own for number in self._where.get(run, ()))
        near = {}
        if len(own) >= FEWEST_RUNS:
            candidates = [number for number, count in counts.items() if number >= 0 and count >= NEAR * len(own)]
            near = {
                number: counts[number] / len(own)
                for number in candidates
                if not self._has_other_content(words, number, counts, len(own))
            }
        return near | dict.fromkeys(self._containing(words), 1.0)

    def _has_other_content(self, words: Words, number: int, counts: Mapping[int, int], num_own: int) -> bool:
        """Returns whether the text with this number has the wording of the words and other content."""
        alike = [other for other, count in counts.items() if other != number and count >= RELATED * num_own]
        relatives = [self._words[other] for other in alike if self._words[other] != words]
        return has_other_content(words, self._words[number], relatives[:MOST_RELATIVES])

    def _containing(self, words: Words) -> list[int]:
        """Returns the texts that contain the words in a row, unless so many do that the words are shared wording."""
        if len(words) < FEWEST_WORDS:
            return []
        rarest = min(runs_of(words), key=lambda run: self._holders.get(run, 0))
        needle = f" {' '.join(words)} "
        numbers = [number for number in self._where.get(rarest, ()) if needle in f" {' '.join(self._words[number])} "]
        distinct_texts = {self._words[number] for number in numbers} - {words}
        return [number for number in numbers if number >= 0] if len(distinct_texts) <= MOST_HOLDERS else []

    def near_pairs(self, numbers: Sequence[int]) -> list[tuple[int, int, float]]:
        """Returns pairs (i, j, share), `i` before `j` in `numbers`, of texts that are near copies of each other.

        The share is that of the text with more runs of its own: a short text within a long one is no duplicate of it.
        """
        own_runs = {number: self._runs[number] - self._shared_runs for number in numbers}
        own = {number: len(text_runs) for number, text_runs in own_runs.items() if text_runs}
        place = {number: i for i, number in enumerate(own)}
        holders: defaultdict[Run, list[int]] = defaultdict(list)  # in the order of `numbers`
        for number in own:
            for run in own_runs[number]:
                holders[run].append(number)
        several = (together for together in holders.values() if len(together) > 1)
        common = Counter(pair for together in several for pair in combinations(together, 2))
        shares = [(i, j, count / max(FEWEST_RUNS, own[i], own[j])) for (i, j), count in common.items()]
        pairs = sorted((pair for pair in shares if pair[2] >= NEAR), key=lambda pair: (place[pair[0]], place[pair[1]]))
        return [pair for pair in pairs if not self._are_other(own_runs[pair[0]], *pair[:2])]

    def _are_other(self, own: Set[Run], i: int, j: int) -> bool:
        """Returns whether two texts have the same wording and other content."""
        counts = Counter(number for run in own for number in self._where[run])
        return self._has_other_content(self._words[i], j, counts, len(own))
