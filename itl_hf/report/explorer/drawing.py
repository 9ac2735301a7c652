"""Numbers that the browser draws: the points of the pool and the targets (sent once) and what changes with a click.

Coordinates are integers from 0 to 65,535 across the map, so a point takes four bytes and 200,000 points take 800 kB.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.report.explorer.comparison import Comparison, second_picks_on_map
from itl_hf.report.explorer.map_words import map_words
from itl_hf.report.explorer.row_table import pick_texts
from itl_hf.report.explorer.row_text import text_of, tooltip
from itl_hf.report.figures import variance_left
from itl_hf.report.text import visible

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.report.explorer.session import Session
    from itl_hf.selection.result.selection import Layout, Selection

STEPS = 65_535


def points(data: ExplorerData) -> dict[str, Any]:
    """The points of the pool and the targets, which no click changes.

    Returns:
        `dict`: `pool` (base64 of little-endian uint16 x, y, x, y...), `rows` (base64 of uint32 row numbers; `None`
        if every row of the pool is on the map), `targets` (x, y, tooltip) and `explained` (shares of variance of the
        two axes; `None` for UMAP, whose axes have no meaning).
    """
    layout = data.selection.layout
    low, span = _map_bounds(layout)
    has_all_rows = len(layout.pool_rows) == data.selection.pool_size
    return {
        "pool": _encode(_to_steps(layout.pool, low, span), "<u2"),
        "rows": None if has_all_rows else _encode(layout.pool_rows, "<u4"),
        "targets": [
            [int(x), int(y), _tooltip(f"target {number}", text_of(row)[0])]
            for number, ((x, y), row) in enumerate(
                zip(_to_steps(layout.targets, low, span), data.selection.targets, strict=True)
            )
        ],
        "words": [[*map(int, _to_steps(np.asarray([x, y]), low, span)), words] for x, y, words in map_words(data)],
        "has_text": data.text_rows is not None,
        "explained": None if layout.method != "pca" else [round(float(share), 3) for share in layout.explained],
    }


def marks(
    data: ExplorerData,
    session: Session,
    *,
    listed_picks: list[int],
    nearest_ranks: list[int],
    matching_rows: np.ndarray | None = None,
    other_selection: Selection | None,
    comparison: Comparison | None,
    names: tuple[str, str] = ("", ""),
) -> dict[str, Any]:
    """What is drawn on top of the points of the pool.

    Args:
        data (`ExplorerData`):
            The selection with its pool and features.
        session (`Session`):
            What the visitor has done so far.
        listed_picks (`list[int]`):
            Ranks (from 0) of the picks that pass the filters; the others are drawn faintly.
        nearest_ranks (`list[int]`):
            Ranks of the picks nearest to the chosen target.
        matching_rows (`np.ndarray`, *optional*):
            (h,) rows of the pool that contain the text of the filter; `None` if there is no such text.
        other_selection (`Selection`, *optional*):
            The selection that the current one is compared with.
        comparison (`Comparison`, *optional*):
            The result of that comparison.
        names (`tuple[str, str]`, *optional*):
            Names of the current and the other selection in the legend.

    Returns:
        `dict`: `picks` (x, y, row, tooltip and state of each pick, in order of rank), `others` (x, y, rank, tooltip of
        the picks that only the other selection has), `hidden` (how many of these are not on the map), `target` (number
        of the chosen one), `near` (ranks), `point` (kind and number of what was clicked last) and `names` (`None` if
        nothing is compared).
    """
    selection = session.current_selection(data)
    low, span = _map_bounds(data.selection.layout)
    coordinates = _to_steps(selection.layout.picks, low, span)
    listed_set, shared_set = set(listed_picks), {rank for rank, _ in comparison.both} if comparison else set()
    texts = pick_texts(selection)
    picks = [
        [
            int(x),
            int(y),
            int(selection.indices[rank]),
            _tooltip(f"pick {rank + 1}", texts[rank][0]),
            # Bits: passes the filters, is dropped, is also in the other selection.
            (rank in listed_set)
            | (int(selection.indices[rank]) in session.dropped_rows) << 1
            | (rank in shared_set) << 2,
        ]
        for rank, (x, y) in enumerate(coordinates)
    ]
    others: list[list[Any]] = []
    hidden = 0
    if other_selection is not None and comparison is not None:
        other_coordinates = second_picks_on_map(data.selection.layout, selection, other_selection, comparison)
        ranks = [rank for rank in comparison.only_second if np.isfinite(other_coordinates[rank]).all()]
        hidden = len(comparison.only_second) - len(ranks)
        texts = pick_texts(other_selection)
        others = [
            [int(x), int(y), rank, _tooltip(f"pick {rank + 1} of {names[1]}", texts[rank][0])]
            for rank, (x, y) in zip(ranks, _to_steps(other_coordinates[ranks], low, span), strict=True)
        ]
    return {
        "picks": picks,
        "others": others,
        "hidden": hidden,
        "target": session.target,
        "near": nearest_ranks,
        "point": list(session.point) if session.point else None,
        "names": None if comparison is None else [visible(name) for name in names],
        "hits": None if matching_rows is None else _bits(np.isin(data.selection.layout.pool_rows, matching_rows)),
        "num_hits": 0 if matching_rows is None else len(matching_rows),
    }


def dumps(numbers: dict[str, Any] | None) -> str:
    """JSON without spaces."""
    return json.dumps(numbers, separators=(",", ":"))


def curve(selection: Selection, target: int | None) -> dict[str, Any]:
    """Remaining variance of the targets after each pick, as a share of the variance before any pick.

    Returns:
        `dict`: `mean` (n + 1 numbers, over all targets by their weights), `target` (the same for the chosen target, or
        `None`), `floor` (the share that no row of the pool can remove), `most` (whether the floor is an upper bound)
        and `number` (of the chosen target).
    """
    left = variance_left(selection.target_variance)
    prior = selection.target_variance[0]
    attainable = selection.record.attainable or {}
    weights = selection.record.weights_of_targets
    prior_mean = float(np.average(prior, weights=weights)) or 1.0
    floor = float(np.average(selection.irreducible, weights=weights)) / prior_mean
    if target is not None:
        floor = float(selection.irreducible[target] / prior[target]) if prior[target] > 0 else 0.0
    return {
        "mean": _round_shares(np.average(selection.target_variance, axis=1, weights=weights) / prior_mean),
        "target": None if target is None else _round_shares(left[:, target]),
        "floor": round(floor, 4),
        "most": not attainable.get("exact", True),
        "number": target,
    }


def _map_bounds(layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Lower left corner and size of the map, (2,) each."""
    coordinates = np.concatenate([layout.pool, layout.targets, layout.picks])
    low = coordinates.min(0)
    span = np.maximum(coordinates.max(0) - low, 1e-9)
    return low, np.maximum(span, span.max() * 1e-3)


def _to_steps(coordinates: np.ndarray, low: np.ndarray, span: np.ndarray) -> np.ndarray:
    steps: np.ndarray = np.clip(np.rint((coordinates - low) / span * STEPS), 0, STEPS).astype(np.int64)
    return steps


def _encode(numbers: np.ndarray, dtype: str) -> str:
    return base64.b64encode(np.ascontiguousarray(numbers, dtype=dtype).tobytes()).decode()


def _bits(mask: np.ndarray) -> str:
    return base64.b64encode(np.packbits(mask, bitorder="little").tobytes()).decode()


def _tooltip(name: str, prompt: str) -> str:
    return str(visible(f"{name}: {tooltip(prompt)}"))


def _round_shares(values: np.ndarray) -> list[float]:
    return [round(float(value), 4) for value in values]
