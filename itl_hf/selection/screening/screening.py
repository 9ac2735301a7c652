"""Screens a selection for targets whose text is in the pool, and for picks that are copies of each other.

If a model is trained on the text of a target and then measured with that target, the measurement shows what it has
memorized. Exact copies are searched in the whole pool, by the hashes of its prompts. Near copies are searched among the
picks and each target's nearest rows under the kernel, because a copy with small changes has almost the same features.
`recipes/benchmarks/screening.py` measures how many copies this misses, compared with comparing all rows. The result
holds row numbers and no text, so that it can be published with a selection.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from itl_hf.embedding.reading import RowReading, TextPair
from itl_hf.embedding.row_keys import text_columns
from itl_hf.embedding.row_reading import prompt_keys_of
from itl_hf.selection.screening.overlap import Corpus
from itl_hf.text import TextRows, plain_text
from itl_hf.text.content import tools_text
from itl_hf.text.normalization import normalize_text

if TYPE_CHECKING:
    from datasets import Dataset

How = Literal["exact", "near"]
#: Number of nearest rows of each target whose text is compared with it, and the most in total.
CANDIDATES, MOST_CANDIDATES = 10, 10_000
#: Number of copies that are listed; the counts include all.
MAX_LISTED = 1_000
#: Number of rows that a warning lists for users to copy.
MAX_NAMED = 20


@dataclass(frozen=True)
class Copy:
    """A row of the pool that is a copy of a target.

    Args:
        target (`int`):
            Row number in the targets.
        row (`int`):
            Row number in the pool.
        rank (`int`, *optional*):
            Position among the picks, from 0; `None` if the row was not picked.
        how (`"exact"` or `"near"`):
            Whether it is an exact or a near copy.
        share (`float`):
            Share of the target's own runs of words that the row contains.
    """

    target: int
    row: int
    rank: int | None
    how: How
    share: float = 1.0


@dataclass(frozen=True)
class Duplicate:
    """Two picks that are copies of each other.

    Args:
        rank (`int`):
            Position of the later one among the picks, from 0.
        of (`int`):
            Position of the earlier one.
        how (`"exact"` or `"near"`):
            Whether they are exact or near copies, prompt and completion together.
        share (`float`):
            Share of own runs of words that both contain.
    """

    rank: int
    of: int
    how: How
    share: float = 1.0


@dataclass(frozen=True)
class Screening:
    """The copies that were found.

    Args:
        copies (`tuple[Copy, ...]`):
            Rows of the pool that are copies of a target, those among the picks first.
        duplicates (`tuple[Duplicate, ...]`):
            Picks that are copies of an earlier pick.
        num_copies (`int`):
            Number of copies, also if not all are listed.
        num_duplicates (`int`):
            Number of duplicates, also if not all are listed.

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
        """Targets whose text is in the pool, exactly or with small changes."""
        return sorted({copy.target for copy in self.copies})

    @property
    def targets_among_picks(self) -> list[int]:
        """Targets whose text is among the picks."""
        return sorted({copy.target for copy in self.copies if copy.rank is not None})

    @property
    def contaminated_rows(self) -> list[int]:
        """Rows of the pool to exclude if the model is also evaluated on the targets."""
        return sorted({copy.row for copy in self.copies})

    def to_record(self) -> dict[str, Any]:
        """Converts the result to JSON types."""
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
    pool: Dataset | TextRows,
    picks: Sequence[int],
    nearest: np.ndarray,
    pool_reading: RowReading,
    target_prompts: Sequence[str],
) -> Screening:
    """Searches the pool for copies of targets, and the picks for copies of each other.

    Args:
        pool (`Dataset` or `TextRows`):
            The rows.
        picks (`Sequence[int]`):
            Picked row numbers in their order.
        nearest (`np.ndarray`):
            (k, m) row numbers, each target's nearest rows, nearest first.
        pool_reading (`RowReading`):
            What the one pass over the pool's text found: it finds exact copies without another pass. If its rows were
            drawn from a larger pool, copies have the row numbers of that pool.
        target_prompts (`Sequence[str]`):
            (m,) the targets' prompts.
    """
    ranks = {row: rank for rank, row in reversed(list(enumerate(picks)))}
    near = nearest[: max(1, min(CANDIDATES, MOST_CANDIDATES // len(target_prompts)))]  # (<= k, m)
    texts, tools = _texts(text_columns(pool), ranks, near.flatten().tolist(), pool_reading)
    joined_texts = {number: "\n".join(text) for number, text in texts.items()}
    corpus = Corpus(joined_texts, target_prompts, pool_reading.shared_wording, only=ranks)
    copies = {
        (target, row): Copy(target, row, ranks.get(row), "near", round(share, 3))
        for target, prompt in enumerate(target_prompts)
        for row, share in corpus.near(prompt).items()
    }
    copies |= {(copy.target, copy.row): copy for copy in _exact_copies(pool_reading, target_prompts, ranks)}
    duplicates = sorted(_duplicates(texts, tools, corpus, ranks), key=lambda one: (one.rank, one.of))
    sorted_copies = sorted(copies.values(), key=lambda copy: (copy.rank is None, copy.how, copy.target, copy.row))
    listed_copies = (replace(copy, row=pool_reading.row_number(copy.row)) for copy in sorted_copies[:MAX_LISTED])
    return Screening(tuple(listed_copies), tuple(duplicates[:MAX_LISTED]), len(sorted_copies), len(duplicates))


def _texts(
    rows: TextRows, ranks: Mapping[int, int], near: Sequence[int], pool_reading: RowReading
) -> tuple[dict[int, TextPair], dict[int, str]]:
    """Returns prompt and completion of the picks, the near rows and the sample; and the tools that picks offer."""
    texts = dict(pool_reading.sample)
    unread = sorted({*ranks, *near} - (set(texts) - set(ranks)))
    tools = {}
    for number, row in zip(unread, rows.read(np.array(unread)) if unread else (), strict=True):
        texts[number] = plain_text(row)
        if number in ranks:
            tools[number] = tools_text(row)
    return texts, tools


def warn_of_copies(screening: Screening) -> None:
    """Warns if targets are among the picks."""
    targets = screening.targets_among_picks
    if targets:
        rows = [copy.row for copy in screening.copies if copy.rank is not None]
        listed_rows = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        all_rows = screening.contaminated_rows
        exclude = str(all_rows) if len(all_rows) <= MAX_NAMED else "selection.screening.contaminated_rows"
        warnings.warn(
            f"{len(targets)} of the targets {'are' if len(targets) > 1 else 'is'} among the picks, word for word or "
            f"with small changes (rows of the pool: {listed_rows}). After training, a measurement with these targets "
            f"would show what the model has memorized. Select again with constraints=SelectionConstraints(exclude="
            f"{exclude}), which leaves out all such rows.",
            stacklevel=5,
        )


def _exact_copies(pool_reading: RowReading, target_prompts: Sequence[str], ranks: Mapping[int, int]) -> Iterator[Copy]:
    target_keys = prompt_keys_of(target_prompts)  # (m, 2)
    targets_by_key: defaultdict[tuple[int, ...], list[int]] = defaultdict(list)
    for target, prompt_key in enumerate(target_keys.tolist()):
        targets_by_key[tuple(prompt_key)].append(target)
    for row in pool_reading.rows_with_prompts(target_keys).tolist():
        for target in targets_by_key[tuple(pool_reading.prompt_keys[row].tolist())]:
            yield Copy(target, row, ranks.get(row), "exact")


def _duplicates(
    texts: Mapping[int, TextPair], tools: Mapping[int, str], corpus: Corpus, ranks: Mapping[int, int]
) -> Iterable[Duplicate]:
    first: dict[tuple[str, ...], int] = {}
    for row, rank in sorted(ranks.items(), key=lambda item: item[1]):
        # A model reads the tools of a row as well.
        earlier = first.setdefault((*map(normalize_text, texts[row]), tools[row]), row)
        if earlier != row:
            yield Duplicate(rank, ranks[earlier], "exact")
    distinct = sorted(first.values(), key=lambda row: ranks[row])
    for early, late, share in corpus.near_pairs(distinct):
        yield Duplicate(ranks[late], ranks[early], "near", round(share, 3))
