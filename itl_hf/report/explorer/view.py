"""Makes what the page shows for a session: HTML from templates that escape all data, and numbers to draw."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from itl_hf.report.explorer import drawing
from itl_hf.report.explorer.comparison import Comparison, compare, source_counts
from itl_hf.report.explorer.nearest_picks import nearest_picks
from itl_hf.report.explorer.row_table import cut, excerpt, group_column, matching_picks, text_of
from itl_hf.report.gains import gain_name, gain_shares, gain_text, total_information
from itl_hf.report.sections import method_name
from itl_hf.report.text import visible
from itl_hf.selection.diagnosis.diagnosis import WORDS, diagnose

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.report.explorer.session import Session
    from itl_hf.selection.result.selection import Selection

PAGE_ROWS = 20
#: Largest number of rows in each column of a comparison.
MAX_COMPARISON_ROWS = 50
NO_TEXT = (
    "A saved selection does not hold the text of rows that were not picked. Start the explorer with --pool to read it."
)

_templates = Environment(
    loader=PackageLoader("itl_hf.report.explorer"),
    autoescape=True,
    finalize=visible,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


@dataclass(frozen=True)
class View:
    """All parts of the page that a click may change.

    Args:
        marks (`str`):
            JSON, what is drawn on top of the pool's points on the map.
        curve (`str`):
            JSON, the curve of the remaining variance.
        card (`str`):
            HTML, the text of the row that was clicked.
        target (`str`):
            HTML, the chosen target and its nearest picks.
        picks (`str`):
            HTML, one page of the list of picks.
        dropped_rows (`str`):
            HTML, the dropped rows and what selecting again without them changed.
        comparison (`str`):
            HTML, the comparison of two selections.
    """

    marks: str
    curve: str
    card: str
    target: str
    picks: str
    dropped_rows: str
    comparison: str


def view(data: ExplorerData, session: Session) -> View:
    """Makes all parts of the page that depend on the session."""
    selection = session.current_selection(data)
    listed_picks = matching_picks(selection, session.filters)
    nearest = [] if session.target is None else nearest_picks(data, selection, session.target)
    other_selection = compared_selection(data, session)
    comparison = None if other_selection is None else compare(selection, other_selection)
    marks = drawing.marks(
        data,
        session,
        listed_picks=listed_picks,
        nearest_ranks=[rank for rank, _ in nearest],
        other_selection=other_selection,
        comparison=comparison,
        names=_selection_names(data, session),
    )
    return View(
        marks=drawing.dumps(marks),
        curve=drawing.dumps(drawing.curve(selection, session.target)),
        card=_card(data, session),
        target=_target(data, session, nearest),
        picks=_picks(data, session, listed_picks),
        dropped_rows=_dropped_rows(data, session),
        comparison=_comparison(data, session, other_selection, comparison),
    )


def compared_selection(data: ExplorerData, session: Session) -> Selection | None:
    """The selection that the current one is compared with, if any."""
    if session.mode == "before":
        return data.selection if session.new_selection is not None else None
    return data.other if session.mode == "other" else None


def summary(data: ExplorerData) -> str:
    """HTML of the heading: numbers of rows and targets, variance that is left, and information about the targets."""
    selection = data.selection
    diagnosis = diagnose(selection)
    return _templates.get_template("summary.html").render(
        picks=len(selection),
        pool=selection.pool_size,
        targets=len(selection.targets),
        method=method_name(selection.record),
        left=diagnosis.left,
        information=total_information(selection),
        num_unreachable=len(diagnosis.out_of_reach),
        map_rows=len(selection.layout.pool),
    )


def target_names(data: ExplorerData) -> list[str]:
    """One line for each target: its number and an excerpt of its text."""
    return [visible(f"{number}: {excerpt(text_of(row)[0])}") for number, row in enumerate(data.selection.targets)]


def _card(data: ExplorerData, session: Session) -> str:
    card: dict[str, Any] | None = None
    if session.point is not None:
        kind, number = session.point
        card = {
            "pick": _pick_card,
            "target": _target_card,
            "pool": _pool_card,
            "other": _other_card,
        }[kind](data, session, number)
    return _templates.get_template("card.html").render(card=card, dropped_rows=session.dropped_rows)


def _pick_card(data: ExplorerData, session: Session, rank: int) -> dict[str, Any]:
    selection = session.current_selection(data)
    return _text_fields(selection.dataset[rank]) | {
        "title": f"Pick {rank + 1:,}",
        "facts": _pick_facts(selection, rank),
        "nearest": int(selection.dataset[rank]["itl_nearest_target"]),
        "row": int(selection.indices[rank]),
    }


def _pool_card(data: ExplorerData, session: Session, number: int) -> dict[str, Any]:
    ranks = np.flatnonzero(session.current_selection(data).indices == number)
    if len(ranks):
        return _pick_card(data, session, int(ranks[0]))
    texts = {"prompt": "", "completion": "", "note": NO_TEXT}
    if data.pool is not None:
        texts = _text_fields(data.pool[number])
    return texts | {"title": f"Row {number:,} of the pool", "facts": ["not picked"], "nearest": None, "row": number}


def _target_card(data: ExplorerData, session: Session, number: int) -> dict[str, Any]:
    return _text_fields(data.selection.targets[number]) | {
        "title": f"Target {number}",
        "facts": ["target"],
        "nearest": None,
        "row": None,
    }


def _other_card(data: ExplorerData, session: Session, rank: int) -> dict[str, Any]:
    other_selection = compared_selection(data, session)
    if other_selection is None or rank >= len(other_selection):
        return {
            "title": "This pick is no longer in the comparison",
            "facts": [],
            "prompt": "",
            "completion": "",
            "note": "",
            "nearest": None,
            "row": None,
        }
    # Row numbers of another selection may belong to another pool.
    same_pool = session.mode == "before"
    return _text_fields(other_selection.dataset[rank]) | {
        "title": f"Pick {rank + 1:,} of {_selection_names(data, session)[1]}",
        "facts": _pick_facts(other_selection, rank),
        "nearest": None,
        "row": int(other_selection.indices[rank]) if same_pool else None,
    }


def _pick_facts(selection: Selection, rank: int) -> list[str]:
    row, column = selection.dataset[rank], group_column(selection)
    gain = gain_text(row["itl_gain"], selection.record)
    facts = [f"row {int(row['pool_index']):,} of the pool", f"gain {gain}"]
    facts.append(f"similarity {row['itl_similarity']:.2f} to target {row['itl_nearest_target']}")
    return facts if column is None else [*facts, f"{column}: {row[column]}"]


def _text_fields(row: Any) -> dict[str, Any]:
    prompt, completion = text_of(row)
    return {"prompt": cut(prompt), "completion": cut(completion), "note": "" if prompt else "This row has no text."}


def _target(data: ExplorerData, session: Session, nearest: list[tuple[int, float]]) -> str:
    selection = session.current_selection(data)
    fields: dict[str, Any] | None = None
    if session.target is not None:
        diagnosis = diagnose(selection)
        target = diagnosis.targets[session.target]
        fields = {
            "number": session.target,
            "text": cut(target.text),
            "verdict": WORDS[target.verdict],
            "left": target.left,
            "bound": "" if diagnosis.exact else "at most ",
            "floor": target.irreducible,
            "whole": target.whole_pool,
            "reach": target.reach,
            "near": [_line(selection, rank) | {"similarity": similarity} for rank, similarity in nearest],
        }
    return _templates.get_template("target.html").render(target=fields, complete=data.pool_features is not None)


def _line(selection: Selection, rank: int) -> dict[str, Any]:
    row, column = selection.dataset[rank], group_column(selection)
    return {
        "rank": rank,
        "row": int(row["pool_index"]),
        "gain": float(row["itl_gain"]),
        "excerpt": excerpt(text_of(row)[0]),
        "group": "" if column is None else str(row[column]),
    }


def _picks(data: ExplorerData, session: Session, listed_picks: list[int]) -> str:
    selection = session.current_selection(data)
    pages = max(1, -(-len(listed_picks) // PAGE_ROWS))
    page = min(session.page, pages - 1)
    page_picks = listed_picks[page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
    shares = gain_shares(selection.gains)
    lines = [_line(selection, rank) | {"share": float(shares[rank])} for rank in page_picks]
    return _templates.get_template("picks.html").render(
        lines=lines,
        gain=gain_name(selection.record),
        num_listed=len(listed_picks),
        total=len(selection),
        page=page,
        pages=pages,
        first=page * PAGE_ROWS,
        dropped_rows=session.dropped_rows,
        clicked_rank=session.point[1] if session.point is not None and session.point[0] == "pick" else None,
    )


def _dropped_rows(data: ExplorerData, session: Session) -> str:
    return _templates.get_template("dropped_rows.html").render(
        rows=sorted(session.dropped_rows),
        pending=session.dropped_rows != session.excluded_rows,
        new_selection=session.new_selection is not None,
        obstacle=data.obstacle,
        error=session.error,
        change=None if session.new_selection is None else _change(data.selection, session.new_selection),
    )


def _change(before: Selection, after: Selection) -> dict[str, Any]:
    comparison = compare(after, before)
    return {
        "new": len(comparison.only_first),
        "picks": len(after),
        "before": diagnose(before).left,
        "after": diagnose(after).left,
    }


def _comparison(
    data: ExplorerData, session: Session, other_selection: Selection | None, comparison: Comparison | None
) -> str:
    if other_selection is None or comparison is None:
        return _templates.get_template("comparison.html").render(comparison=None, has_other=data.other is not None)
    selection = session.current_selection(data)
    return _templates.get_template("comparison.html").render(
        comparison=comparison,
        has_other=data.other is not None,
        names=_selection_names(data, session),
        sizes=(len(selection), len(other_selection)),
        only_first=[_line(selection, rank) for rank in comparison.only_first[:MAX_COMPARISON_ROWS]],
        only_second=[_line(other_selection, rank) for rank in comparison.only_second[:MAX_COMPARISON_ROWS]],
        both=[_line(selection, rank) | {"other_rank": other} for rank, other in comparison.both[:MAX_COMPARISON_ROWS]],
        column=group_column(selection),
        counts=source_counts(selection, other_selection)[:MAX_COMPARISON_ROWS],
    )


def _selection_names(data: ExplorerData, session: Session) -> tuple[str, str]:
    """Names of the current selection and of the one that it is compared with."""
    first = data.name if session.new_selection is None else "the new selection"
    return first, "the first selection" if session.mode == "before" else data.other_name
