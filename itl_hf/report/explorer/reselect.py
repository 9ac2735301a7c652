"""Selecting again without the rows that a person dropped, at once: features are stored, and kernel, noise and limits
are those on record.

What stays as it was measured with all rows: the floor under each target's variance. Dropping rows can only raise it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.selection.reselect import reselect
from itl_hf.selection.result.assemble import picked_rows
from itl_hf.selection.result.selection import Selection
from itl_hf.selection.select_rows import RowSelection

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData

#: Rows that an unknown projection is fitted on, for picks that the map's sample does not hold.
FIT_ROWS = 4096


def select_again(explored: ExplorerData, dropped: Collection[int], num_examples: int | None = None) -> Selection:
    """The selection that the same settings make of the pool without some rows.

    Args:
        explored (`ExplorerData`):
            With pool and features.
        dropped (`Collection[int]`):
            Row numbers of the pool; rows of equal text are dropped with them.
        num_examples (`int`, *optional*):
            Rows to pick; as many as before if left out.

    Raises:
        `ValueError`: Pool or features are not at hand, the record does not say enough, or too few rows are left.
    """
    selection, pool = explored.selection, explored.pool
    if explored.obstacle or pool is None or explored.pool_features is None or explored.target_features is None:
        raise ValueError(explored.obstacle or "pool or features are not at hand")
    closed = _closed(explored, dropped)
    count = len(selection) if num_examples is None else int(num_examples)
    if count > len(pool) - int(closed.sum()) and not selection.record.selection_constraints().replace:
        raise ValueError(f"only {len(pool) - int(closed.sum()):,} rows are left to pick {count:,} from")
    rows = reselect(
        selection.record,
        pool,
        selection.targets,
        explored.pool_features,
        explored.target_features,
        count,
        exclude=np.flatnonzero(closed).tolist(),
    )
    return _assembled(explored, rows, closed)


def _closed(explored: ExplorerData, dropped: Collection[int]) -> np.ndarray:
    """Which rows may not be picked, (N,) bool."""
    numbers = np.asarray(sorted(dropped), dtype=np.int64)
    if explored.equal is not None:
        return np.isin(explored.equal, explored.equal[numbers])
    closed = np.zeros(explored.selection.pool_size, dtype=bool)
    closed[numbers] = True
    return closed


def _assembled(explored: ExplorerData, rows: RowSelection, closed: np.ndarray) -> Selection:
    """A selection on the map of the first one."""
    before, pool = explored.selection, explored.pool
    assert pool is not None
    left = rows.target_variance[-1]
    attainable = {**(before.record.attainable or {}), "measured_before_dropping": int(closed.sum())}
    # The record of the new picks has no screening: nothing has searched them for copies.
    record = replace(rows.record, attainable=attainable)
    return replace(
        before,
        dataset=picked_rows(pool, rows),
        indices=rows.indices,
        gains=rows.gains,
        target_variance=rows.target_variance,
        irreducible=np.minimum(before.irreducible, left),
        whole_pool=np.minimum(before.whole_pool, left),
        record=record,
        layout=replace(before.layout, picks=_places(before, rows)),
        extend_fn=None,
        features=None,
    )


def _places(before: Selection, rows: RowSelection) -> np.ndarray:
    """(n, 2): where the map has these rows; a row that its sample lacks is projected as the sample was."""
    layout = before.layout
    places = np.searchsorted(layout.pool_rows, rows.indices).clip(max=len(layout.pool_rows) - 1)
    known = layout.pool_rows[places] == rows.indices
    found: np.ndarray = layout.pool[places].copy()
    if not known.all():
        sample = np.linspace(0, len(layout.pool) - 1, min(FIT_ROWS, len(layout.pool))).astype(np.int64)
        features = rows.pool.rows(layout.pool_rows[sample].tolist()).numpy()  # (S, d)
        strangers = rows.pool.rows(rows.indices[~known].tolist()).numpy()
        if layout.method != "pca":  # UMAP's map is no formula: beside the nearest row that is drawn
            found[~known] = layout.pool[sample[(strangers @ features.T).argmax(1)]]
            return found
        centre = features.mean(0)
        # The map is affine in prepared features, so that least squares give it back.
        axes, *_ = np.linalg.lstsq(features - centre, layout.pool[sample] - layout.pool[sample].mean(0), rcond=None)
        found[~known] = (strangers - centre) @ axes + layout.pool[sample].mean(0)
    return found
