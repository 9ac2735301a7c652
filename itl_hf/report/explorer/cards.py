"""The card of the point that was clicked last: its text, its other columns, and what the selection knows of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.report.explorer.nearest_picks import nearest_target
from itl_hf.report.explorer.row_table import other_columns, pick_texts
from itl_hf.report.explorer.row_text import cut, pool_rows, text_of
from itl_hf.report.explorer.templating import render
from itl_hf.report.gains import gain_text

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.report.explorer.session import Session
    from itl_hf.selection.result.selection import Selection

NO_TEXT = (
    "A saved selection does not hold the text of rows that were not picked. Start the explorer with --pool to read it."
)


def card(data: ExplorerData, session: Session) -> str:
    """HTML of the card; it says where to click if nothing was."""
    fields: dict[str, Any] | None = None
    if session.point is not None:
        kind, number = session.point
        fields = {"pick": _pick_card, "target": _target_card, "pool": _pool_card, "other": _other_card}[kind](
            data, session, number
        )
    return render("card.html", card=fields, dropped_rows=session.dropped_rows)


def selection_names(data: ExplorerData, session: Session) -> tuple[str, str]:
    """Names of the current selection and of the one that it is compared with."""
    first = data.name if session.new_selection is None else "the new selection"
    return first, "the first selection" if session.mode == "before" else data.other_name


def compared_selection(data: ExplorerData, session: Session) -> Selection | None:
    """The selection that the current one is compared with, if any."""
    if session.mode == "before":
        return data.selection if session.new_selection is not None else None
    return data.other if session.mode == "other" else None


def _pick_card(data: ExplorerData, session: Session, rank: int) -> dict[str, Any]:
    selection = session.current_selection(data)
    return _pick_fields(data, selection, rank) | {
        "title": f"Pick {rank + 1:,}",
        "nearest": int(selection.dataset[rank]["itl_nearest_target"]),
        "row": int(selection.indices[rank]),
    }


def _pick_fields(data: ExplorerData, selection: Selection, rank: int) -> dict[str, Any]:
    row = selection.dataset[rank]
    facts = [
        f"row {int(row['pool_index']):,} of the pool",
        f"gain {gain_text(row['itl_gain'], selection)}",
        f"similarity {row['itl_similarity']:.2f} to target {row['itl_nearest_target']}",
    ]
    return _text_fields(*pick_texts(selection)[rank]) | {"facts": facts, "columns": other_columns(data, row)}


def _pool_card(data: ExplorerData, session: Session, number: int) -> dict[str, Any]:
    ranks = np.flatnonzero(session.current_selection(data).indices == number)
    if len(ranks):
        return _pick_card(data, session, int(ranks[0]))
    nearest = nearest_target(data, number)
    facts = ["not picked", *([f"similarity {nearest[1]:.2f} to target {nearest[0]}"] if nearest is not None else [])]
    fields: dict[str, Any] = {"prompt": "", "completion": "", "note": NO_TEXT, "columns": []}
    if data.pool is not None and data.text_rows is not None:
        fields = _text_fields(*pool_rows(data.text_rows, [number])[0])
        fields["columns"] = other_columns(data, data.pool.with_format(None)[number])
    title = f"Row {number:,} of the pool"
    return fields | {
        "title": title,
        "facts": facts,
        "nearest": None if nearest is None else nearest[0],
        "row": number,
    }


def _target_card(data: ExplorerData, session: Session, number: int) -> dict[str, Any]:
    return _text_fields(*text_of(data.selection.targets[number])) | {
        "title": f"Target {number}",
        "facts": [],
        "columns": other_columns(data, data.selection.targets[number]),
        "nearest": None,
        "row": None,
    }


def _other_card(data: ExplorerData, session: Session, rank: int) -> dict[str, Any]:
    other_selection = compared_selection(data, session)
    if other_selection is None or rank >= len(other_selection):
        empty: dict[str, Any] = {
            "facts": [],
            "columns": [],
            "prompt": "",
            "completion": "",
            "note": "",
            "nearest": None,
            "row": None,
        }
        return empty | {"title": "This pick is no longer in the comparison"}
    # Row numbers of another selection may belong to another pool.
    same_pool = session.mode == "before"
    return _pick_fields(data, other_selection, rank) | {
        "title": f"Pick {rank + 1:,} of {selection_names(data, session)[1]}",
        "nearest": None,
        "row": int(other_selection.indices[rank]) if same_pool else None,
    }


def _text_fields(prompt: str, completion: str) -> dict[str, Any]:
    return {"prompt": cut(prompt), "completion": cut(completion), "note": "" if prompt else "This row has no text."}
