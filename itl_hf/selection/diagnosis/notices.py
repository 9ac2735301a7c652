"""Notices about a selection, to read before training on it; shown by `diagnose`, the report and the card."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from itl_hf.selection.diagnosis.diagnosable import Diagnosable
from itl_hf.selection.diagnosis.few_picks import few_picks_text
from itl_hf.selection.diagnosis.shift_notice import shift_text
from itl_hf.selection.exactness_notice import many_targets_text, uncertain_picks_text
from itl_hf.selection.screening.screening import Screening
from itl_hf.selection.unusable_rows import unusable_sentences

Kind = Literal[
    "contamination",
    "duplicates",
    "shift",
    "undirected",
    "uncertain",
    "many_targets",
    "negligible",
    "unusable",
    "few_picks",
]
#: The last picks were not needed if all of them together gave less than this share of the total information.
NEGLIGIBLE = 0.01


@dataclass(frozen=True)
class Notice:
    """A notice about a selection.

    Args:
        kind (`str`):
            `"contamination"`, `"duplicates"`, `"shift"`, `"undirected"`, `"uncertain"`, `"many_targets"`, `"unusable"`,
            `"few_picks"` or `"negligible"`.
        text (`str`):
            A few sentences, without text from the data.
        ranks (`tuple[int, ...]`):
            The picks concerned, from 0.
        targets (`tuple[int, ...]`):
            The targets concerned.
    """

    kind: Kind
    text: str
    ranks: tuple[int, ...] = ()
    targets: tuple[int, ...] = ()


def notices(selection: Diagnosable) -> list[Notice]:
    """Returns all notices about a selection, the most serious first; an empty list if there are none.

    Example:
        >>> texts = [notice.text for notice in notices(selection)]
    """
    screening = Screening.from_record(selection.record.screening)
    copies = [] if screening is None else [*_contamination(screening), *_duplicates(screening)]
    return [
        *copies,
        *_shift(selection),
        *_undirected(selection),
        *_exactness(selection),
        *_unusable(selection),
        *_few_picks(selection),
        *_negligible(selection),
    ]


def _contamination(screening: Screening) -> list[Notice]:
    notices = []
    ranks = sorted({copy.rank for copy in screening.copies if copy.rank is not None})
    if ranks:
        targets = screening.targets_among_picks
        text = (
            f"{_count(targets, 'target')} {_is(targets)} among the picks, word for word or with small changes. After "
            f"training, a measurement with {_them(targets)} would show what the model has memorized."
        )
        notices.append(Notice("contamination", text, tuple(ranks), tuple(targets)))
    if screening.num_copies and not screening.copies:  # as published without the target prompts
        number = (
            "1 row of the pool is a copy of a target"
            if screening.num_copies == 1
            else (f"{screening.num_copies:,} rows of the pool are copies of targets")
        )
        text = (
            f"{number}, word for word or with small changes; which is not published. After training on copies, a "
            "measurement with the targets would show what the model has memorized."
        )
        notices.append(Notice("contamination", text))
    rest = [target for target in screening.targets_in_pool if target not in screening.targets_among_picks]
    if rest:
        name = "further target" if ranks else "target"
        text = f"{_count(rest, name)} {_is(rest)} in the pool, but not among the picks."
        notices.append(Notice("contamination", text, targets=tuple(rest)))
    return notices


def _duplicates(screening: Screening) -> list[Notice]:
    exact = {one.rank for one in screening.duplicates if one.how == "exact"}
    near = {one.rank for one in screening.duplicates} - exact
    parts = [f"{len(ranks)} {how}" for how, ranks in (("exact", exact), ("near", near)) if ranks]
    if not parts:
        return []
    ranks = sorted(exact | near)
    copies = "a copy" if len(ranks) == 1 else "copies"
    text = f"{_count(ranks, 'pick')} {_is(ranks)} {copies} of an earlier pick ({', '.join(parts)})."
    return [Notice("duplicates", text, tuple(ranks))]


def _shift(selection: Diagnosable) -> list[Notice]:
    text = shift_text(selection)
    return [] if text is None else [Notice("shift", text)]


def _undirected(selection: Diagnosable) -> list[Notice]:
    if selection.record.acquisition_name == "undirected":
        text = "The objective does not depend on the targets: it picks the rows with the largest posterior variance."
        return [Notice("undirected", text)]
    if selection.record.undirected:
        text = (
            "The targets span the whole feature space and their noise is 0, so the objective did not depend on them: "
            "it picked the rows with the largest posterior variance."
        )
        return [Notice("undirected", text)]
    return []


def _exactness(selection: Diagnosable) -> list[Notice]:
    uncertain_picks, many_targets = selection.record.exactness, selection.record.many_targets
    notices = []
    if uncertain_picks is not None:
        notices.append(Notice("uncertain", uncertain_picks_text(uncertain_picks)))
    if many_targets is not None:
        notices.append(Notice("many_targets", many_targets_text(many_targets)))
    return notices


def _unusable(selection: Diagnosable) -> list[Notice]:
    sentences = unusable_sentences(selection.record.unusable)
    return [Notice("unusable", f"Never picked: {' '.join(sentences)}")] if sentences else []


def _few_picks(selection: Diagnosable) -> list[Notice]:
    text = few_picks_text(selection)
    return [] if text is None else [Notice("few_picks", text)]


def _negligible(selection: Diagnosable) -> list[Notice]:
    gains = np.clip(selection.gains, 0, None)
    num_needed = num_informative_picks(gains)
    spare = len(gains) - num_needed
    if spare < max(2, len(gains) // 20):
        return []
    text = (
        f"The last {spare} of the {len(gains)} picks give less than {NEGLIGIBLE:.0%} of the total information: "
        f"{num_needed} picks would have been enough."
    )
    return [Notice("negligible", text, tuple(range(num_needed, len(gains))))]


def num_informative_picks(gains: np.ndarray) -> int:
    """Returns after how many picks the others together give less than `NEGLIGIBLE` of the total, (n,) -> 0 to n."""
    total = np.cumsum(gains)
    if not len(total) or total[-1] <= 0:
        return len(gains)
    return int(np.searchsorted(total, (1 - NEGLIGIBLE) * total[-1])) + 1


def _count(things: Sequence[int], name: str) -> str:
    return f"{len(things)} {name}{'' if len(things) == 1 else 's'}"


def _is(things: Sequence[int]) -> str:
    return "is" if len(things) == 1 else "are"


def _them(things: Sequence[int]) -> str:
    return "it" if len(things) == 1 else "them"
