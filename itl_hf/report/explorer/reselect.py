"""Selects again without the rows that the visitor dropped.

This is fast, since the features are stored, and the kernel, the noise and the constraints are taken from the record.
The floor under each target's variance is not measured again: it stays as measured with all rows of the pool, and
dropping rows can only raise it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.selection.reselect import reselect
from itl_hf.selection.result.assemble import picked_rows
from itl_hf.selection.result.selection import Selection
from itl_hf.selection.row_selection import RowSelection

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData

#: Number of rows to fit the map's projection on, for picks that are not in the map's sample of the pool.
MAX_FIT_ROWS = 4096


def select_again(
    data: ExplorerData,
    dropped_rows: Collection[int],
    num_examples: int | None = None,
    weights: Mapping[int, float] | None = None,
) -> Selection:
    """Selects with the same settings from the pool without some of its rows.

    Args:
        data (`ExplorerData`):
            The selection with its pool and features.
        dropped_rows (`Collection[int]`):
            Row numbers of the pool that must not be picked. Rows with the same text are not picked either.
        num_examples (`int`, *optional*):
            Number of rows to pick; by default as many as before.
        weights (`Mapping[int, float]`, *optional*):
            Weights of targets that differ from those of the first selection, by their number.

    Returns:
        `Selection`: The new selection, with coordinates on the map of the first one.

    Raises:
        `ValueError`: If the pool or the features are missing, the record does not hold all settings, or too few rows
            are left.
    """
    selection, pool = data.selection, data.pool
    if data.obstacle or pool is None or data.pool_features is None or data.target_features is None:
        raise ValueError(data.obstacle or "the pool or the features are missing")
    exclusion_mask = _exclusion_mask(data, dropped_rows)
    count = len(selection) if num_examples is None else int(num_examples)
    if count > len(pool) - int(exclusion_mask.sum()) and not selection.record.selection_constraints().replace:
        raise ValueError(f"only {len(pool) - int(exclusion_mask.sum()):,} rows are left to pick {count:,} from")
    rows = reselect(
        selection.record,
        pool,
        selection.targets,
        data.pool_features,
        data.target_features,
        count,
        exclude=np.flatnonzero(exclusion_mask).tolist(),
        target_weights=_target_weights(selection, weights or {}),
    )
    return _assemble_selection(data, rows, exclusion_mask)


def weighs_targets(data: ExplorerData) -> bool:
    """Whether selecting again with other weights of the targets is possible and changes the picks."""
    return not data.obstacle and bool(getattr(data.selection.record.acquisition(), "weighs_targets", False))


def _target_weights(selection: Selection, weights: Mapping[int, float]) -> list[float] | None:
    """Weights of all targets, m; `None` for those of the record."""
    if not weights:
        return None
    before = selection.record.weights_of_targets
    numbers = [1.0] * len(selection.targets) if before is None else list(map(float, before))
    return [weights.get(target, number) for target, number in enumerate(numbers)]


def _exclusion_mask(data: ExplorerData, dropped_rows: Collection[int]) -> np.ndarray:
    """Mask of the rows that must not be picked, (N,) bool."""
    numbers = np.asarray(sorted(dropped_rows), dtype=np.int64)
    if data.text_ids is not None:
        return np.isin(data.text_ids, data.text_ids[numbers])
    exclusion_mask = np.zeros(data.selection.pool_size, dtype=bool)
    exclusion_mask[numbers] = True
    return exclusion_mask


def _assemble_selection(data: ExplorerData, rows: RowSelection, exclusion_mask: np.ndarray) -> Selection:
    """Makes a selection whose picks have coordinates on the map of the first one."""
    before, pool = data.selection, data.pool
    assert pool is not None
    remaining_variance = rows.target_variance[-1]
    attainable = {**(before.record.attainable or {}), "measured_before_dropping": int(exclusion_mask.sum())}
    # The record of the new picks has no screening: nothing has searched them for copies.
    record = replace(rows.record, attainable=attainable)
    return replace(
        before,
        dataset=picked_rows(pool, rows),
        indices=rows.indices,
        gains=rows.gains,
        target_variance=rows.target_variance,
        irreducible=np.minimum(before.irreducible, remaining_variance),
        whole_pool=np.minimum(before.whole_pool, remaining_variance),
        record=record,
        layout=replace(before.layout, picks=_map_coordinates(before, rows)),
        extend_fn=None,
        features=None,
    )


def _map_coordinates(before: Selection, rows: RowSelection) -> np.ndarray:
    """Coordinates of the picks on the map, (n, 2). Picks that are not in the map's sample are projected onto it."""
    layout = before.layout
    positions = np.searchsorted(layout.pool_rows, rows.indices).clip(max=len(layout.pool_rows) - 1)
    is_on_map = layout.pool_rows[positions] == rows.indices
    coordinates: np.ndarray = layout.pool[positions].copy()
    if not is_on_map.all():
        sample = np.linspace(0, len(layout.pool) - 1, min(MAX_FIT_ROWS, len(layout.pool))).astype(np.int64)
        features = rows.pool.rows(layout.pool_rows[sample].tolist()).cpu().numpy()  # (S, d)
        missing_features = rows.pool.rows(rows.indices[~is_on_map].tolist()).cpu().numpy()
        if layout.method != "pca":  # UMAP has no formula to apply: take the coordinates of the nearest row on the map
            coordinates[~is_on_map] = layout.pool[sample[(missing_features @ features.T).argmax(1)]]
            return coordinates
        centre = features.mean(0)
        # The map is an affine function of the standardized features, so least squares recover it.
        axes, *_ = np.linalg.lstsq(features - centre, layout.pool[sample] - layout.pool[sample].mean(0), rcond=None)
        coordinates[~is_on_map] = (missing_features - centre) @ axes + layout.pool[sample].mean(0)
    return coordinates
