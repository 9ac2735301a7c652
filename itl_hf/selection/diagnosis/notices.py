"""What someone should know before training on a selection, in sentences: for `diagnose`, the report and the card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from itl_hf.selection.screening.screening import Screening

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

Kind = Literal["contamination", "duplicates", "undirected", "negligible"]
#: The last picks are more than were needed where all of them together told less than this share of all that was told.
NEGLIGIBLE = 0.01


@dataclass(frozen=True)
class Notice:
    """One thing to know.

    Args:
        kind (`str`):
            `"contamination"`, `"duplicates"`, `"undirected"` or `"negligible"`.
        text (`str`):
            One or two sentences, without any text of the data.
        ranks (`tuple[int, ...]`):
            Picks that it is about, from 0.
        targets (`tuple[int, ...]`):
            Targets that it is about.
    """

    kind: Kind
    text: str
    ranks: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()


def notices(selection: Selection) -> list[Notice]:
    """All that there is to say, the gravest first; empty where all is well.

    Example:
        >>> texts = [notice.text for notice in notices(selection)]
    """
    screening = Screening.from_record(selection.record.screening)
    found = [] if screening is None else [*_contamination(screening), *_duplicates(screening)]
    return [*found, *_undirected(selection), *_negligible(selection)]


def _contamination(screening: Screening) -> list[Notice]:
    notices = []
    ranks = sorted({copy.rank for copy in screening.copies if copy.rank is not None})
    if ranks:
        targets = screening.targets_among_picks
        text = (
            f"{_count(targets, 'target')} {_is(targets)} among the picks, word for word or nearly: to measure with "
            f"{_them(targets)} after training would measure memory."
        )
        notices.append(Notice("contamination", text, tuple(ranks), tuple(targets)))
    rest = [target for target in screening.targets_in_pool if target not in screening.targets_among_picks]
    if rest:
        name = "further target" if ranks else "target"
        text = f"{_count(rest, name)} {_is(rest)} in the pool, but not among the picks."
        notices.append(Notice("contamination", text, targets=tuple(rest)))
    return notices


def _duplicates(screening: Screening) -> list[Notice]:
    exact = {one.rank for one in screening.duplicates if one.how == "exact"}
    near = {one.rank for one in screening.duplicates} - exact
    parts = [f"{len(ranks)} {how}" for ranks, how in ((exact, "exactly"), (near, "nearly")) if ranks]
    if not parts:
        return []
    ranks = sorted(exact | near)
    say = "says" if len(ranks) == 1 else "say"
    text = f"{_count(ranks, 'pick')} {say} what an earlier pick says: {' and '.join(parts)}."
    return [Notice("duplicates", text, tuple(ranks))]


def _undirected(selection: Selection) -> list[Notice]:
    if selection.record.acquisition_name == "undirected":
        return [
            Notice(
                "undirected", "The objective does not look at the targets: it picks what the model knows least about."
            )
        ]
    if selection.record.undirected:
        text = (
            "The targets span the whole feature space and count as free of noise, so the objective had lost its "
            "direction: it picked what the model knows least about, whatever the targets."
        )
        return [Notice("undirected", text)]
    return []


def _negligible(selection: Selection) -> list[Notice]:
    gains = np.clip(selection.gains, 0, None)
    needed = enough(gains)
    spare = len(gains) - needed
    if spare < max(2, len(gains) // 20):
        return []
    text = (
        f"The last {spare} of the {len(gains)} picks tell less than {NEGLIGIBLE:.0%} of all that was told: "
        f"{needed} picks would have been enough."
    )
    return [Notice("negligible", text, tuple(range(needed, len(gains))))]


def enough(gains: np.ndarray) -> int:
    """Picks after which all others together tell less than `NEGLIGIBLE` of the whole, (n,) -> 0 to n."""
    told = np.cumsum(gains)
    if not len(told) or told[-1] <= 0:
        return len(gains)
    return int(np.searchsorted(told, (1 - NEGLIGIBLE) * told[-1])) + 1


def _count(things: Sequence[int], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _is(things: Sequence[int]) -> str:
    return "is" if len(things) == 1 else "are"


def _them(things: Sequence[int]) -> str:
    return "it" if len(things) == 1 else "them"
