"""What the page shows of a session: HTML made by templates that escape everything, and numbers for the drawings."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from itl_hf.report.explorer import drawing
from itl_hf.report.explorer.comparison import Comparison, compare, counts
from itl_hf.report.explorer.nearest_picks import nearest_picks
from itl_hf.report.explorer.row_table import cut, excerpt, group_column, matching, text_of
from itl_hf.report.sections import METHODS
from itl_hf.report.text import visible
from itl_hf.selection.diagnosis.diagnosis import WORDS, diagnose

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.report.explorer.session import Session
    from itl_hf.selection.result.selection import Selection

PAGE_ROWS = 20
#: Rows of each column of a comparison.
COMPARED_ROWS = 50
NO_TEXT = "The text of rows that were not picked is not in a saved selection. Start with --pool to read it."

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
    """Everything on the page that a click may change.

    Args:
        marks (`str`):
            JSON, what is drawn above the pool's points on the map.
        curve (`str`):
            JSON, the variance curve.
        card (`str`):
            HTML, the row that was clicked.
        target (`str`):
            HTML, the target that was chosen and its nearest picks.
        picks (`str`):
            HTML, a page of the list of picks.
        dropped (`str`):
            HTML, dropped rows and what became of them.
        compared (`str`):
            HTML, the comparison.
    """

    marks: str
    curve: str
    card: str
    target: str
    picks: str
    dropped: str
    compared: str


def view(explored: ExplorerData, session: Session) -> View:
    """The page's changing parts for a session."""
    now = session.now(explored)
    kept = matching(now, session.filters)
    near = [] if session.target is None else nearest_picks(explored, now, session.target)
    second = counterpart(explored, session)
    matched = None if second is None else compare(now, second)
    names = _names(explored, session)
    places = [place for place, _ in near]
    marks = drawing.marks(explored, session, kept=kept, near=places, second=second, matched=matched, names=names)
    return View(
        marks=drawing.dumps(marks),
        curve=drawing.dumps(drawing.curve(now, session.target)),
        card=_card(explored, session),
        target=_target(explored, session, near),
        picks=_picks(explored, session, kept),
        dropped=_dropped(explored, session),
        compared=_compared(explored, session, second, matched),
    )


def counterpart(explored: ExplorerData, session: Session) -> Selection | None:
    """What the selection on show is compared with."""
    if session.mode == "before":
        return explored.selection if session.again is not None else None
    return explored.other if session.mode == "other" else None


def summary(explored: ExplorerData) -> str:
    """HTML: what was selected from what, in a sentence and a few numbers."""
    selection = explored.selection
    name = selection.record.acquisition_name
    diagnosis = diagnose(selection)
    return _templates.get_template("summary.html").render(
        picks=len(selection),
        pool=selection.pool_size,
        targets=len(selection.targets),
        method=METHODS.get(name, name),
        left=diagnosis.left,
        information=float(np.sum(selection.gains)),
        trouble=len(diagnosis.unteachable) + len(diagnosis.far),
        drawn=len(selection.layout.pool),
    )


def target_names(explored: ExplorerData) -> list[str]:
    """A line for each target, to choose from."""
    return [visible(f"{number}: {excerpt(text_of(row)[0])}") for number, row in enumerate(explored.selection.targets)]


def _card(explored: ExplorerData, session: Session) -> str:
    card: dict[str, Any] | None = None
    if session.point is not None:
        kind, number = session.point
        card = {
            "pick": _pick_card,
            "target": _target_card,
            "pool": _pool_card,
            "other": _other_card,
        }[kind](explored, session, number)
    return _templates.get_template("card.html").render(card=card, dropped=session.dropped)


def _pick_card(explored: ExplorerData, session: Session, place: int) -> dict[str, Any]:
    now = session.now(explored)
    return _texts(now.dataset[place]) | {
        "title": f"Pick {place + 1:,}",
        "facts": _pick_facts(now, place),
        "nearest": int(now.dataset[place]["itl_nearest_target"]),
        "row": int(now.indices[place]),
    }


def _pool_card(explored: ExplorerData, session: Session, number: int) -> dict[str, Any]:
    ranks = np.flatnonzero(session.now(explored).indices == number)
    if len(ranks):
        return _pick_card(explored, session, int(ranks[0]))
    texts = {"prompt": "", "completion": "", "note": NO_TEXT}
    if explored.pool is not None:
        texts = _texts(explored.pool[number])
    return texts | {"title": f"Row {number:,} of the pool", "facts": ["not picked"], "nearest": None, "row": number}


def _target_card(explored: ExplorerData, session: Session, number: int) -> dict[str, Any]:
    facts = ["target"]
    return _texts(explored.selection.targets[number]) | {
        "title": f"Target {number}",
        "facts": facts,
        "nearest": None,
        "row": None,
    }


def _other_card(explored: ExplorerData, session: Session, place: int) -> dict[str, Any]:
    second = counterpart(explored, session)
    if second is None or place >= len(second):
        return {"title": "Gone", "facts": [], "prompt": "", "completion": "", "note": "", "nearest": None, "row": None}
    same = session.mode == "before"
    return _texts(second.dataset[place]) | {
        "title": f"Pick {place + 1:,} of {_names(explored, session)[1]}",
        "facts": _pick_facts(second, place),
        "nearest": None,
        "row": int(second.indices[place]) if same else None,
    }


def _pick_facts(selection: Selection, place: int) -> list[str]:
    row, column = selection.dataset[place], group_column(selection)
    facts = [f"row {int(row['pool_index']):,} of the pool", f"gain {row['itl_gain']:.3g} nats"]
    facts.append(f"similarity {row['itl_similarity']:.2f} to target {row['itl_nearest_target']}")
    return facts if column is None else [*facts, f"{column}: {row[column]}"]


def _texts(row: Any) -> dict[str, Any]:
    prompt, completion = text_of(row)
    return {"prompt": cut(prompt), "completion": cut(completion), "note": "" if prompt else "This row has no text."}


def _target(explored: ExplorerData, session: Session, near: list[tuple[int, float]]) -> str:
    now = session.now(explored)
    chosen: dict[str, Any] | None = None
    if session.target is not None:
        diagnosis = diagnose(now)
        found = diagnosis.targets[session.target]
        served = Counter(now.dataset["itl_nearest_target"][:])[session.target]
        chosen = {
            "number": session.target,
            "text": cut(found.text),
            "verdict": WORDS[found.verdict],
            "left": found.left,
            "bound": "" if diagnosis.exact else "at most ",
            "floor": found.irreducible,
            "whole": found.whole_pool,
            "reach": found.reach,
            "served": served,
            "near": [_line(now, place) | {"similarity": similarity} for place, similarity in near],
        }
    return _templates.get_template("target.html").render(target=chosen, complete=explored.pool_features is not None)


def _line(selection: Selection, place: int) -> dict[str, Any]:
    row, column = selection.dataset[place], group_column(selection)
    return {
        "place": place,
        "row": int(row["pool_index"]),
        "gain": float(row["itl_gain"]),
        "excerpt": excerpt(text_of(row)[0]),
        "group": "" if column is None else str(row[column]),
    }


def _picks(explored: ExplorerData, session: Session, kept: list[int]) -> str:
    now = session.now(explored)
    pages = max(1, -(-len(kept) // PAGE_ROWS))
    page = min(session.page, pages - 1)
    shown = kept[page * PAGE_ROWS : (page + 1) * PAGE_ROWS]
    largest = float(np.max(now.gains, initial=0.0)) or 1.0
    lines = [_line(now, place) | {"share": min(1.0, max(0.0, float(now.gains[place]) / largest))} for place in shown]
    return _templates.get_template("picks.html").render(
        lines=lines,
        found=len(kept),
        total=len(now),
        page=page,
        pages=pages,
        first=page * PAGE_ROWS,
        dropped=session.dropped,
        selected=session.point[1] if session.point is not None and session.point[0] == "pick" else None,
    )


def _dropped(explored: ExplorerData, session: Session) -> str:
    return _templates.get_template("dropped.html").render(
        rows=sorted(session.dropped),
        pending=session.dropped != session.applied,
        again=session.again is not None,
        obstacle=explored.obstacle,
        trouble=session.trouble,
        change=None if session.again is None else _change(explored.selection, session.again),
    )


def _change(before: Selection, after: Selection) -> dict[str, Any]:
    matched = compare(after, before)
    return {
        "new": len(matched.only_first),
        "picks": len(after),
        "before": diagnose(before).left,
        "after": diagnose(after).left,
    }


def _compared(explored: ExplorerData, session: Session, second: Selection | None, matched: Comparison | None) -> str:
    if second is None or matched is None:
        return _templates.get_template("compared.html").render(matched=None, has_other=explored.other is not None)
    now = session.now(explored)
    return _templates.get_template("compared.html").render(
        matched=matched,
        has_other=explored.other is not None,
        names=_names(explored, session),
        sizes=(len(now), len(second)),
        only_first=[_line(now, place) for place in matched.only_first[:COMPARED_ROWS]],
        only_second=[_line(second, place) for place in matched.only_second[:COMPARED_ROWS]],
        both=[_line(now, place) | {"there": there} for place, there in matched.both[:COMPARED_ROWS]],
        column=group_column(now),
        counts=counts(now, second)[:COMPARED_ROWS],
    )


def _names(explored: ExplorerData, session: Session) -> tuple[str, str]:
    """What the selection on show and its counterpart are called."""
    first = explored.name if session.again is None else "the new selection"
    return first, "the first selection" if session.mode == "before" else explored.other_name
