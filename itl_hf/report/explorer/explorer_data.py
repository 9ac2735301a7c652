"""The data of the explorer: a selection and, if they are available, its pool and its stored features."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.embedding.row_keys import row_keys
from itl_hf.embedding.store.lookup import stored_features
from itl_hf.report.explorer.search_index import SearchIndex
from itl_hf.selection.reselect import check_reselectable
from itl_hf.text import TextRows

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.selection.feature_arrays import Features
    from itl_hf.selection.result.selection import Selection

NO_FEATURES = (
    "Selecting again is not possible without the features, and the cache does not have them. Start the explorer with "
    "--store and the folder that was given to `itl-hf select --store`."
)
NO_POOL = (
    "Selecting again is not possible without the rows of the pool. Start the explorer with --pool and the rows that "
    "the selection was made from."
)


@dataclass(frozen=True, eq=False)
class ExplorerData:
    """A selection with its pool and features.

    Args:
        selection (`Selection`):
            The selection to explore.
        name (`str`, *optional*):
            Name of the selection on the page.
        other (`Selection`, *optional*):
            Another selection to compare it with.
        other_name (`str`, *optional*):
            Name of the other selection on the page.
        pool (`Dataset`, *optional*):
            The rows that the selection was made from.
        text_rows (`TextRows`, *optional*):
            The text of these rows.
        search_index (`SearchIndex`, *optional*):
            Finds the rows that contain a text.
        text_ids (`np.ndarray`, *optional*):
            (N,) a number for the text of each row: rows with the same text have the same number. `None` if all texts
            differ.
        pool_features (`Features`, *optional*):
            (N, d) features of the pool.
        target_features (`Features`, *optional*):
            (m, d) features of the targets.
        obstacle (`str`, *optional*):
            A sentence that says why selecting again is not possible; empty if it is possible.
    """

    selection: Selection
    name: str = "this selection"
    other: Selection | None = None
    other_name: str = "the other selection"
    pool: Dataset | None = field(default=None, repr=False)
    text_rows: TextRows | None = field(default=None, repr=False)
    search_index: SearchIndex | None = field(default=None, repr=False)
    text_ids: np.ndarray | None = field(default=None, repr=False)
    pool_features: Features | None = field(default=None, repr=False)
    target_features: Features | None = field(default=None, repr=False)
    obstacle: str = NO_FEATURES


def gather(
    selection: Selection,
    *,
    name: str = "this selection",
    compare: Selection | None = None,
    compare_name: str = "the other selection",
    pool: Dataset | None = None,
    store: str | os.PathLike[str] | bool | None = None,
) -> ExplorerData:
    """Collects what the explorer shows: a selection, its pool and its stored features.

    Args:
        selection (`Selection`):
            The selection to explore, such as `Selection.load("selected")`.
        name (`str`, *optional*):
            Name of the selection on the page.
        compare (`Selection`, *optional*):
            Another selection to compare it with.
        compare_name (`str`, *optional*):
            Name of the other selection on the page.
        pool (`Dataset`, *optional*):
            The rows that the selection was made from. With it, the page shows the text of rows that were not picked.
        store (`str`, `PathLike` or `bool`, *optional*):
            The `store=` of the selector; left out, the default cache. With these features and `pool`, the visitor can
            drop rows and select again.

    Returns:
        `ExplorerData`: The data to give to `serve` or `build`.

    Raises:
        `ValueError`: If `pool` holds other rows than the selection was made from, or if `store` does not hold the
            selection's features.

    Example:
        >>> from itl_hf import Selection
        >>> data = gather(Selection.load("selected"), pool=pool, store="features")
        >>> data.obstacle
        ''
    """
    text_rows = None if pool is None else TextRows(pool, selection.record.column_mapping())
    text_ids = None if text_rows is None else _check_pool(selection, text_rows)
    pool_features: Features | None = None
    target_features: Features | None = None
    if selection.shortlist_rows is None:  # otherwise most rows of the pool have no features
        pool_features = _open_features(selection, store, "pool", "embedder")
    target_features = _open_features(selection, store, "targets", "targets_embedder")
    is_complete = target_features is not None and (pool_features is not None or selection.shortlist_rows is not None)
    obstacle = NO_FEATURES if not is_complete else NO_POOL if pool is None else ""
    if not obstacle:
        try:
            check_reselectable(selection.record)
        except ValueError as error:
            obstacle = f"Selecting again is not possible: {error}."
    return ExplorerData(
        selection,
        name,
        compare,
        compare_name,
        pool,
        text_rows,
        None if text_rows is None else SearchIndex(text_rows),
        text_ids,
        pool_features,
        target_features,
        obstacle,
    )


def _check_pool(selection: Selection, pool: TextRows) -> np.ndarray | None:
    """Checks that the pool is the one of the selection, and numbers the texts of its rows (`None` if all differ)."""
    keys = row_keys(pool)
    recorded_hash = selection.record.pool_fingerprint or keys.hash
    if len(pool) != selection.pool_size or keys.hash != recorded_hash:
        raise ValueError(
            f"--pool holds other rows ({len(pool)}) than the selection was made from ({selection.pool_size}): "
            "pass the same file or dataset as to `itl-hf select`"
        )
    return keys.index()


def _open_features(
    selection: Selection, store: str | os.PathLike[str] | bool | None, side: str, embedder: str
) -> Features | None:
    """Opens the features of the pool or the targets; `None` if the cache does not have them."""
    fingerprint = getattr(selection.record, embedder) or {}
    features = stored_features(store, fingerprint, getattr(selection.record, f"{side}_fingerprint") or "")
    if features is None and isinstance(store, str | os.PathLike):
        raise ValueError(
            f"{os.fspath(store)} holds no features of this selection's {side}: pass the folder that was given to "
            "`itl-hf select --store`"
        )
    return features
