"""What the explorer has before it: a selection, and as much of what it was made from as is at hand."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.embedding.row_keys import row_keys
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.selection.reselect import check_reselectable

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.selection.feature_arrays import Features
    from itl_hf.selection.result.selection import Selection

NO_FEATURES = (
    "Selecting again is off: the features are not at hand. Start with --store, the folder that `itl-hf select --store` "
    "kept them in."
)
NO_POOL = (
    "Selecting again is off: the pool's rows are not at hand. Start with --pool, the rows that were selected from."
)


@dataclass(frozen=True, eq=False)
class ExplorerData:
    """A selection and its surroundings.

    Args:
        selection (`Selection`):
            What to look at.
        name (`str`, *optional*):
            What to call it.
        other (`Selection`, *optional*):
            One to compare it with.
        other_name (`str`, *optional*):
            What to call that.
        pool (`Dataset`, *optional*):
            The rows that were selected from.
        equal (`np.ndarray`, *optional*):
            (N,) number of each row's text; `None` where all differ.
        pool_features (`Features`, *optional*):
            (N, d).
        target_features (`Features`, *optional*):
            (m, d).
        obstacle (`str`, *optional*):
            Why one cannot select again, as a sentence; empty if one can.
    """

    selection: Selection
    name: str = "this selection"
    other: Selection | None = None
    other_name: str = "the other selection"
    pool: Dataset | None = field(default=None, repr=False)
    equal: np.ndarray | None = field(default=None, repr=False)
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
    store: str | os.PathLike[str] | None = None,
) -> ExplorerData:
    """Puts a selection together with its pool and features.

    Args:
        selection (`Selection`):
            What to look at, such as `Selection.load("selected")`.
        name (`str`, *optional*):
            What the page calls it.
        compare (`Selection`, *optional*):
            One to compare it with.
        compare_name (`str`, *optional*):
            What the page calls that.
        pool (`Dataset`, *optional*):
            The rows that were selected from: their text can then be read in the page.
        store (`str` or `PathLike`, *optional*):
            What `Selector(store=...)` was given: with it and the pool one can drop rows and select again.

    Raises:
        `ValueError`: Other rows than those that were selected from, or a store without their features.

    Example:
        >>> from itl_hf import Selection
        >>> explored = gather(Selection.load("selected"), pool=pool, store="features")
        >>> explored.obstacle
        ''
    """
    equal = None if pool is None else _checked(selection, pool)
    rows: Features | None = None
    targets: Features | None = None
    obstacle = NO_FEATURES if store is None else NO_POOL if pool is None else ""
    if store is not None:
        rows = _stored(selection, store, "pool", "embedder")
        targets = _stored(selection, store, "targets", "targets_embedder")
    if not obstacle:
        try:
            check_reselectable(selection.record)
        except ValueError as error:
            obstacle = f"Selecting again is off: {error}."
    return ExplorerData(selection, name, compare, compare_name, pool, equal, rows, targets, obstacle)


def _checked(selection: Selection, pool: Dataset) -> np.ndarray | None:
    """Which rows are equal, of a pool that is the selection's own."""
    keys = row_keys(pool)
    known = selection.record.pool_fingerprint or keys.hash
    if len(pool) != selection.pool_size or keys.hash != known:
        raise ValueError(
            f"--pool holds other rows ({len(pool)}) than those that were selected from ({selection.pool_size}): "
            "give the same file or dataset as `itl-hf select` was given"
        )
    return keys.index()


def _stored(selection: Selection, store: str | os.PathLike[str], side: str, embedder: str) -> Features:
    fingerprint = getattr(selection.record, embedder) or {}
    directory = feature_directory(store, fingerprint, getattr(selection.record, f"{side}_fingerprint") or "")
    if not directory.exists():
        raise ValueError(
            f"{os.fspath(store)} holds no features of this selection's {side}: give the folder that "
            "`itl-hf select --store` was given"
        )
    return FeatureStore.open(directory).features()
