"""Numbers for the drawings that the browser makes: the pool's points once, and the little that changes with a click.

Coordinates are whole numbers from 0 to 65,535 across the map, so a point is four bytes and 50,000 of them 200 kB.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.report.explorer.comparison import Comparison, places_on_map
from itl_hf.report.explorer.row_table import excerpt, text_of
from itl_hf.report.figures import variance_left
from itl_hf.report.text import visible

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.report.explorer.session import Session
    from itl_hf.selection.result.selection import Layout, Selection

STEPS = 65_535
TIP_CHARACTERS = 100


def points(explored: ExplorerData) -> dict[str, Any]:
    """The pool and the targets, which stay as they are.

    Returns:
        `dict`: `pool` (base64 of little-endian uint16 x, y, x, y...), `rows` (base64 of uint32 row numbers; `None`
        where every row is drawn), `targets` (x, y, words), `explained` (two shares;
        `None` for UMAP, whose axes mean nothing).
    """
    layout = explored.selection.layout
    low, span = _frame(layout)
    every = len(layout.pool_rows) == explored.selection.pool_size
    return {
        "pool": _packed(_steps(layout.pool, low, span), "<u2"),
        "rows": None if every else _packed(layout.pool_rows, "<u4"),
        "targets": [
            [int(x), int(y), _tip(f"target {number}", row)]
            for number, ((x, y), row) in enumerate(
                zip(_steps(layout.targets, low, span), explored.selection.targets, strict=True)
            )
        ],
        "explained": None if layout.method != "pca" else [round(float(share), 3) for share in layout.explained],
    }


def marks(
    explored: ExplorerData,
    session: Session,
    *,
    kept: list[int],
    near: list[int],
    second: Selection | None,
    matched: Comparison | None,
    names: tuple[str, str] = ("", ""),
) -> dict[str, Any]:
    """What is drawn above the points.

    Args:
        explored (`ExplorerData`):
            What is looked at.
        session (`Session`):
            Where the visitor is.
        kept (`list[int]`):
            Picks that pass the filters; the others are faint.
        near (`list[int]`):
            Picks nearest to the chosen target.
        second (`Selection`, *optional*):
            What is compared with.
        matched (`Comparison`, *optional*):
            With the result.
        names (`tuple[str, str]`, *optional*):
            What the legend calls the two.

    Returns:
        `dict`: `picks` (x, y, row, words, state by rank), `others` (x, y, rank, words: what only the second selection
        has), `hidden` (how many more of these are not on the map), `target`, `near`, `point` (kind, number), `names`
        (of the two, or `None`).
    """
    now = session.now(explored)
    low, span = _frame(explored.selection.layout)
    spots = _steps(now.layout.picks, low, span)
    passing, shared = set(kept), {here for here, _ in matched.both} if matched else set()
    picks = [
        [
            int(x),
            int(y),
            int(now.indices[place]),
            _tip(f"pick {place + 1}", row),
            # Bits: passes the filters, dropped, also in the second selection.
            (place in passing) | (int(now.indices[place]) in session.dropped) << 1 | (place in shared) << 2,
        ]
        for place, ((x, y), row) in enumerate(zip(spots, now.dataset, strict=True))
    ]
    others: list[list[Any]] = []
    hidden = 0
    if second is not None and matched is not None:
        places = places_on_map(explored.selection.layout, now, second, matched)
        drawn = [place for place in matched.only_second if np.isfinite(places[place]).all()]
        hidden = len(matched.only_second) - len(drawn)
        others = [
            [int(x), int(y), place, _tip(f"pick {place + 1} there", second.dataset[place])]
            for place, (x, y) in zip(drawn, _steps(places[drawn], low, span), strict=True)
        ]
    return {
        "picks": picks,
        "others": others,
        "hidden": hidden,
        "target": session.target,
        "near": near,
        "point": list(session.point) if session.point else None,
        "names": None if matched is None else [visible(name) for name in names],
    }


def dumps(numbers: dict[str, Any]) -> str:
    """As short JSON as there is."""
    return json.dumps(numbers, separators=(",", ":"))


def curve(selection: Selection, target: int | None) -> dict[str, Any]:
    """Variance left pick by pick, as shares of what it was.

    Returns:
        `dict`: `mean` (n + 1 numbers), `target` (the same for the chosen one, or `None`), `floor` (share that no row of
        the pool can remove), `most` (whether that is an upper bound), `number`.
    """
    left = variance_left(selection.target_variance)
    prior = selection.target_variance[0]
    measured = selection.record.attainable or {}
    whole = float(prior.sum()) or 1.0
    floor = float(selection.irreducible.sum()) / whole
    if target is not None:
        floor = float(selection.irreducible[target] / prior[target]) if prior[target] > 0 else 0.0
    return {
        "mean": _rounded(selection.target_variance.sum(1) / whole),
        "target": None if target is None else _rounded(left[:, target]),
        "floor": round(floor, 4),
        "most": not measured.get("exact", True),
        "number": target,
    }


def _frame(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Lower corner and size of the map, (2,) each."""
    everything = np.concatenate([layout.pool, layout.targets, layout.picks])
    low = everything.min(0)
    span = np.maximum(everything.max(0) - low, 1e-9)
    return low, np.maximum(span, span.max() * 1e-3)


def _steps(places: np.ndarray, low: np.ndarray, span: np.ndarray) -> np.ndarray:
    steps: np.ndarray = np.clip(np.rint((places - low) / span * STEPS), 0, STEPS).astype(np.int64)
    return steps


def _packed(numbers: np.ndarray, kind: str) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, dtype=kind).tobytes()).decode()


def _tip(name: str, row: Any) -> str:
    words = excerpt(text_of(row)[0])
    return str(visible(f"{name}: {words if len(words) <= TIP_CHARACTERS else words[:TIP_CHARACTERS] + '…'}"))


def _rounded(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]
