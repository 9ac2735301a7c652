"""Makes what the page shows for a session: HTML from templates that escape all data, and numbers to draw."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.report.explorer import drawing
from itl_hf.report.explorer.cards import card, compared_selection, selection_names
from itl_hf.report.explorer.column_colors import coloring
from itl_hf.report.explorer.comparison import Comparison, compare, source_counts
from itl_hf.report.explorer.nearest_picks import nearest_picks
from itl_hf.report.explorer.row_table import group_column, matching_picks, pick_excerpts, target_excerpts
from itl_hf.report.explorer.row_text import cut, hit_excerpts, pool_rows
from itl_hf.report.explorer.templating import render
from itl_hf.report.gains import gain_name, gain_number, gain_shares, information_text
from itl_hf.report.names import method_name, model_name
from itl_hf.report.text import visible
from itl_hf.selection.diagnosis.diagnosis import WORDS, diagnose

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.report.explorer.session import Session
    from itl_hf.selection.result.selection import Selection

PAGE_ROWS = 20
#: Largest number of rows in each column of a comparison.
MAX_COMPARISON_ROWS = 50


@dataclass(frozen=True)
class View:
    """All parts of the page that a click may change.

    Args:
        marks (`str`):
            JSON, what is drawn on top of the pool's points on the map.
        colors (`str`):
            JSON, the colours of a column; `null` if the map is not coloured by one.
        curve (`str`):
            JSON, the curve of the remaining variance.
        card (`str`):
            HTML, the text of the row that was clicked.
        target (`str`):
            HTML, the chosen target and its nearest picks.
        picks (`str`):
            HTML, one page of the list of picks.
        hits (`str`):
            HTML, rows of the pool that were not picked and contain the text of the filter.
        dropped_rows (`str`):
            HTML, the dropped rows and what selecting again without them changed.
        comparison (`str`):
            HTML, the comparison of two selections.
    """

    marks: str
    colors: str
    curve: str
    card: str
    target: str
    picks: str
    hits: str
    dropped_rows: str
    comparison: str


def view(data: ExplorerData, session: Session) -> View:
    """Makes all parts of the page that depend on the session."""
    selection = session.current_selection(data)
    listed_picks = matching_picks(selection, session.filters)
    matching_rows = _matching_rows(data, session.filters.text.strip())
    nearest = [] if session.target is None else nearest_picks(data, selection, session.target)
    other_selection = compared_selection(data, session)
    comparison = None if other_selection is None else compare(selection, other_selection)
    marks = drawing.marks(
        data,
        session,
        listed_picks=listed_picks,
        nearest_ranks=[rank for rank, _ in nearest],
        matching_rows=matching_rows,
        other_selection=other_selection,
        comparison=comparison,
        names=selection_names(data, session),
    )
    return View(
        marks=drawing.dumps(marks),
        colors=drawing.dumps(coloring(data, selection, session.column) if session.mode == "column" else None),
        curve=drawing.dumps(drawing.curve(selection, session.target)),
        card=card(data, session),
        target=_target(data, session, nearest),
        picks=_picks(data, session, listed_picks),
        hits=_hits(data, session, matching_rows),
        dropped_rows=_dropped_rows(data, session),
        comparison=_comparison(data, session, other_selection, comparison),
    )


@functools.lru_cache(maxsize=8)
def _matching_rows(data: ExplorerData, query: str) -> np.ndarray | None:
    """Rows of the pool that contain the text, (h,); `None` without a text or without the rows of the pool."""
    return None if not query or data.search_index is None else data.search_index.matching_rows(query)


def summary(data: ExplorerData) -> str:
    """HTML of the heading: numbers of rows and targets, variance that is left, and information about the targets."""
    selection = data.selection
    diagnosis = diagnose(selection)
    return render(
        "summary.html",
        name=data.name,
        picks=len(selection),
        pool=selection.pool_size,
        targets=len(selection.targets),
        method=method_name(selection.record),
        model=model_name(selection.record),
        left=diagnosis.left,
        information=information_text(selection),
        num_unreachable=len(diagnosis.out_of_reach),
        map_rows=len(selection.layout.pool),
    )


def page_title(data: ExplorerData) -> str:
    """Returns the title of the page, by which tabs of a browser can be distinguished: selection and model."""
    model = model_name(data.selection.record)
    return " · ".join(visible(part) for part in (data.name, model, "itl_hf") if part)


def target_names(data: ExplorerData) -> list[str]:
    """One line for each target: its number and an excerpt of its text."""
    return [visible(f"{number}: {line}") for number, line in enumerate(target_excerpts(data.selection))]


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
    return render("target.html", target=fields, complete=data.pool_features is not None)


def _line(selection: Selection, rank: int) -> dict[str, Any]:
    row, column = selection.dataset[rank], group_column(selection)
    return {
        "rank": rank,
        "row": int(row["pool_index"]),
        "gain": gain_number(row["itl_gain"], selection.gains),
        "excerpt": pick_excerpts(selection)[rank],
        "group": "" if column is None else str(row[column]),
    }


def _picks(data: ExplorerData, session: Session, listed_picks: list[int]) -> str:
    selection = session.current_selection(data)
    pages = max(1, -(-len(listed_picks) // PAGE_ROWS))
    page = min(session.page, pages - 1)
    page_picks = listed_picks[page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
    shares = gain_shares(selection.gains)
    lines = [_line(selection, rank) | {"share": float(shares[rank])} for rank in page_picks]
    return render(
        "picks.html",
        lines=lines,
        gain=gain_name(selection.record),
        column=group_column(selection),
        num_listed=len(listed_picks),
        total=len(selection),
        page=page,
        pages=pages,
        first=page * PAGE_ROWS,
        dropped_rows=session.dropped_rows,
        clicked_rank=session.point[1] if session.point is not None and session.point[0] == "pick" else None,
    )


def _hits(data: ExplorerData, session: Session, matching_rows: np.ndarray | None) -> str:
    query = session.filters.text.strip()
    if matching_rows is None:
        return render("hits.html", rows=None, has_pool=data.pool is not None, query=query)
    selection = session.current_selection(data)
    unpicked_rows = np.setdiff1d(matching_rows, selection.indices)
    pages = max(1, -(-len(unpicked_rows) // PAGE_ROWS))
    page = min(session.hits_page, pages - 1)
    numbers = unpicked_rows[page * PAGE_ROWS : (page + 1) * PAGE_ROWS].tolist()
    texts = [] if data.text_rows is None else pool_rows(data.text_rows, numbers)
    lines = hit_excerpts([f"{prompt}\n{completion}" for prompt, completion in texts], query)
    return render(
        "hits.html",
        rows=list(zip(numbers, lines, strict=True)),
        num_hits=len(matching_rows),
        num_unpicked=len(unpicked_rows),
        pool=selection.pool_size,
        query=query,
        clicked_row=session.point[1] if session.point is not None and session.point[0] == "pool" else None,
        first=page * PAGE_ROWS,
        page=page,
        pages=pages,
    )


def _dropped_rows(data: ExplorerData, session: Session) -> str:
    return render(
        "dropped_rows.html",
        rows=sorted(session.dropped_rows),
        pending=session.is_pending,
        weights=sorted(session.weights.items()),
        new_selection=session.new_selection is not None,
        obstacle=data.obstacle,
        error=session.error,
        change=None if session.new_selection is None else _change(data.selection, session.new_selection),
    )


def _change(before: Selection, after: Selection) -> dict[str, Any]:
    comparison = compare(after, before)
    # Both shares by the same weights of the targets, or they would differ by the weights alone.
    before = replace(before, record=replace(before.record, target_weights=after.record.target_weights))
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
        return render("comparison.html", comparison=None, has_other=data.other is not None)
    selection = session.current_selection(data)
    return render(
        "comparison.html",
        comparison=comparison,
        has_other=data.other is not None,
        names=selection_names(data, session),
        sizes=(len(selection), len(other_selection)),
        only_first=[_line(selection, rank) for rank in comparison.only_first[:MAX_COMPARISON_ROWS]],
        only_second=[_line(other_selection, rank) for rank in comparison.only_second[:MAX_COMPARISON_ROWS]],
        both=[_line(selection, rank) | {"other_rank": other} for rank, other in comparison.both[:MAX_COMPARISON_ROWS]],
        column=group_column(selection),
        counts=source_counts(selection, other_selection)[:MAX_COMPARISON_ROWS],
    )
