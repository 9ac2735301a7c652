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
from itl_hf.gp.pool import spaced_rows
from itl_hf.selection.screening.overlap import Corpus, key
from itl_hf.text import Row, plain_text

if TYPE_CHECKING:
    from datasets import Dataset

How = Literal["exact", "near"]
#: Nearest rows of each target whose text is compared with it.
CANDIDATES, MOST_CANDIDATES = 10, 10_000
#: Rows that show which wording the pool's texts share, beside those that are compared.
SAMPLE_ROWS = 1_000
#: Copies that are kept one by one; the counts are always of all.
KEPT = 1_000
_READ_ROWS = 1_024


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
    def from_record(cls, record: Mapping[str, Any]) -> Screening | None:
        """Read from a selection's record; `None` where it was made by a version that did not screen."""
        found = record.get("screening")
        if found is None:
            return None
        return cls(
            tuple(Copy(**copy) for copy in found["copies"]),
            tuple(Duplicate(**one) for one in found["duplicates"]),
            found["num_copies"],
            found["num_duplicates"],
        )


def screen(pool: Dataset, targets: Dataset, picks: Sequence[int], nearest: np.ndarray) -> Screening:
    """Looks for copies of targets in the pool and for copies among the picks.

    Args:
        pool (`Dataset`):
            The rows.
        targets (`Dataset`):
            The target rows.
        picks (`Sequence[int]`):
            Picked row numbers in their order.
        nearest (`np.ndarray`):
            (k, m) row numbers, each target's nearest rows, nearest first.
    """
    ranks = {row: rank for rank, row in reversed(list(enumerate(picks)))}
    rows = text_columns(pool)
    prompts = [plain_text(row)[0] for row in _read(text_columns(targets))]
    near = nearest[: max(1, min(CANDIDATES, MOST_CANDIDATES // len(prompts)))]  # (<= k, m)
    wanted = sorted({*ranks, *near.flatten().tolist(), *spaced_rows(len(pool), SAMPLE_ROWS)})
    texts = {number: plain_text(row) for number, row in zip(wanted, read_rows(rows, np.array(wanted)), strict=True)}
    corpus = Corpus({number: "\n".join(text) for number, text in texts.items()})
    copies = {
        (target, row): Copy(target, row, ranks.get(row), "near", round(share, 3))
        for target, prompt in enumerate(prompts)
        for row, share in corpus.near(prompt).items()
    }
    copies |= {(copy.target, copy.row): copy for copy in _exact_copies(rows, prompts, ranks)}
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


def _exact_copies(rows: Dataset, prompts: Sequence[str], ranks: Mapping[int, int]) -> Iterator[Copy]:
    wanted: defaultdict[str, list[int]] = defaultdict(list)
    for target, prompt in enumerate(prompts):
        wanted[key(prompt)].append(target)
    for number, row in enumerate(_read(rows)):
        for target in wanted.get(key(plain_text(row)[0]), ()):
            yield Copy(target, number, ranks.get(number), "exact")


def _read(rows: Dataset) -> Iterator[Row]:
    for start in range(0, len(rows), _READ_ROWS):
        yield from read_rows(rows, range(start, min(start + _READ_ROWS, len(rows))))


def _duplicates(texts: Mapping[int, tuple[str, str]], corpus: Corpus, ranks: Mapping[int, int]) -> Iterable[Duplicate]:
    first: dict[tuple[str, str], int] = {}
    for row, rank in sorted(ranks.items(), key=lambda item: item[1]):
        earlier = first.setdefault((key(texts[row][0]), key(texts[row][1])), row)
        if earlier != row:
            yield Duplicate(rank, ranks[earlier], "exact")
    distinct = sorted(first.values(), key=lambda row: ranks[row])
    for early, late, share in corpus.near_pairs(distinct):
        yield Duplicate(ranks[late], ranks[early], "near", round(share, 3))
