"""What should be known before a selection is trained on: targets whose text is in the pool, and picks that are copies.

A target that is measured on and whose text was trained on measures memory. Every row of the pool is compared exactly
(one reading of the prompts, a hash each); nearly are compared the picks and each target's nearest rows under the
kernel, since a copy with small changes has almost the features of its original. `recipes/benchmarks/screening.py`
measures what that misses against comparing all with all. The result holds row numbers and no text, so it can be
published with a selection.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from itl_hf.embedding.row_keys import read_rows, text_columns
from itl_hf.embedding.row_reading import RowReading, prompt_keys_of
from itl_hf.selection.screening.overlap import Corpus
from itl_hf.text import plain_text
from itl_hf.text.normalization import normalize_text

if TYPE_CHECKING:
    from datasets import Dataset

How = Literal["exact", "near"]
#: Nearest rows of each target whose text is compared with it.
CANDIDATES, MOST_CANDIDATES = 10, 10_000
#: Copies that are kept one by one; the counts are always of all.
KEPT = 1_000


@dataclass(frozen=True)
class Copy:
    """A row of the pool that says what a target says.

    Args:
        target (`int`):
            Row number in the targets.
        row (`int`):
            Row number in the pool.
        rank (`int`, *optional*):
            Place among the picks, from 0; `None` where it was not picked.
        how (`"exact"` or `"near"`):
            In which sense.
        share (`float`):
            Share of the target's own runs of words that the row holds.
    """

    target: int
    row: int
    rank: int | None
    how: How
    share: float = 1.0


@dataclass(frozen=True)
class Duplicate:
    """Two picks that say the same.

    Args:
        rank (`int`):
            The later one's place among the picks, from 0.
        of (`int`):
            The earlier one's.
        how (`"exact"` or `"near"`):
            In which sense; prompt and completion count.
        share (`float`):
            Share of own runs of words that both hold.
    """

    rank: int
    of: int
    how: How
    share: float = 1.0


@dataclass(frozen=True)
class Screening:
    """What was found; `Selection.screening`.

    Args:
        copies (`tuple[Copy, ...]`):
            Rows of the pool that say what a target says, those among the picks first.
        duplicates (`tuple[Duplicate, ...]`):
            Picks that say what an earlier pick says.
        num_copies (`int`):
            How many copies there are, where not all are kept.
        num_duplicates (`int`):
            The same of duplicates.

    Example:
        >>> selection.screening.targets_among_picks
        []
    """

    copies: tuple[Copy, ...] = ()
    duplicates: tuple[Duplicate, ...] = ()
    num_copies: int = field(default=0)
    num_duplicates: int = field(default=0)

    @property
    def targets_in_pool(self) -> list[int]:
        """Targets whose text is in the pool, exactly or nearly."""
        return sorted({copy.target for copy in self.copies})

    @property
    def targets_among_picks(self) -> list[int]:
        """Targets whose text is among the picks."""
        return sorted({copy.target for copy in self.copies if copy.rank is not None})

    @property
    def contaminated_rows(self) -> list[int]:
        """Rows of the pool to leave out if the targets are also what is measured with."""
        return sorted({copy.row for copy in self.copies})

    def to_record(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self) | {"copies": [*map(asdict, self.copies)], "duplicates": [*map(asdict, self.duplicates)]}

    @classmethod
    def from_record(cls, entries: Mapping[str, Any] | None) -> Screening | None:
        """Reads what `to_record` wrote; `None` where nothing was written."""
        if entries is None:
            return None
        return cls(
            tuple(Copy(**copy) for copy in entries["copies"]),
            tuple(Duplicate(**one) for one in entries["duplicates"]),
            entries["num_copies"],
            entries["num_duplicates"],
        )


def screen(
    pool: Dataset,
    picks: Sequence[int],
    nearest: np.ndarray,
    pool_reading: RowReading,
    target_prompts: Sequence[str],
) -> Screening:
    """Searches the pool for copies of targets, and the picks for copies of each other.

    Args:
        pool (`Dataset`):
            The rows.
        picks (`Sequence[int]`):
            Picked row numbers in their order.
        nearest (`np.ndarray`):
            (k, m) row numbers, each target's nearest rows, nearest first.
        pool_reading (`RowReading`):
            What the one pass over the pool's text found: it finds exact copies without another pass.
        target_prompts (`Sequence[str]`):
            (m,) the targets' prompts.
    """
    ranks = {row: rank for rank, row in reversed(list(enumerate(picks)))}
    rows = text_columns(pool)
    near = nearest[: max(1, min(CANDIDATES, MOST_CANDIDATES // len(target_prompts)))]  # (<= k, m)
    texts = dict(pool_reading.sample)
    unread = sorted({*ranks, *near.flatten().tolist()} - set(texts))
    if unread:
        read_texts = map(plain_text, read_rows(rows, np.array(unread)))
        texts |= dict(zip(unread, read_texts, strict=True))
    corpus = Corpus({number: "\n".join(text) for number, text in texts.items()})
    copies = {
        (target, row): Copy(target, row, ranks.get(row), "near", round(share, 3))
        for target, prompt in enumerate(target_prompts)
        for row, share in corpus.near(prompt).items()
    }
    copies |= {(copy.target, copy.row): copy for copy in _exact_copies(pool_reading, target_prompts, ranks)}
    duplicates = sorted(_duplicates(texts, corpus, ranks), key=lambda one: (one.rank, one.of))
    ordered = sorted(copies.values(), key=lambda copy: (copy.rank is None, copy.how, copy.target, copy.row))
    return Screening(tuple(ordered[:KEPT]), tuple(duplicates[:KEPT]), len(ordered), len(duplicates))


def warn_of_copies(screening: Screening) -> None:
    """Says in plain words that targets are among the picks."""
    found = screening.targets_among_picks
    if found:
        rows = [copy.row for copy in screening.copies if copy.rank is not None]
        shown = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        warnings.warn(
            f"{len(found)} of the targets {'are' if len(found) > 1 else 'is'} among the picks, word for word or nearly "
            f"(rows of the pool: {shown}). To measure with these targets after training would measure memory. Leave "
            "such rows out of the pool and select again; selection.screening.contaminated_rows lists all of them.",
            stacklevel=4,
        )


def _exact_copies(pool_reading: RowReading, target_prompts: Sequence[str], ranks: Mapping[int, int]) -> Iterator[Copy]:
    target_keys = prompt_keys_of(target_prompts)  # (m, 2)
    targets_by_key: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for target, prompt_key in enumerate(target_keys.tolist()):
        targets_by_key[tuple(prompt_key)].append(target)
    for row in pool_reading.rows_with_prompts(target_keys).tolist():
        for target in targets_by_key[tuple(pool_reading.prompt_keys[row].tolist())]:
            yield Copy(target, row, ranks.get(row), "exact")


def _duplicates(texts: Mapping[int, tuple[str, str]], corpus: Corpus, ranks: Mapping[int, int]) -> Iterable[Duplicate]:
    first: dict[tuple[str, str], int] = {}
    for row, rank in sorted(ranks.items(), key=lambda item: item[1]):
        earlier = first.setdefault((normalize_text(texts[row][0]), normalize_text(texts[row][1])), row)
        if earlier != row:
            yield Duplicate(rank, ranks[earlier], "exact")
    distinct = sorted(first.values(), key=lambda row: ranks[row])
    for early, late, share in corpus.near_pairs(distinct):
        yield Duplicate(ranks[late], ranks[early], "near", round(share, 3))
