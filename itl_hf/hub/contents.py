"""Writes everything that is published to a folder, before anything is sent to the Hub.

Two things of a selection are not published: the text of the targets, which are the users' own prompts (unless they are
included on request), and the names of files on their disk, such as that of a local model. `public_record` has the list
of what the record may say.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value

from itl_hf.embedding.store.lookup import stored_features
from itl_hf.embedding.store.stored_features import StoredFeatures
from itl_hf.hub.card import Publication, write_card
from itl_hf.hub.card_section import with_marks
from itl_hf.hub.public_record import public_record
from itl_hf.report.figures import map_figure, variance_figure
from itl_hf.selection.result.columns import VARIANCE_COLUMN, WITHHELD_COLUMN
from itl_hf.selection.result.coverage import group_column
from itl_hf.selection.result.parquet import write_parquet

if TYPE_CHECKING:
    from itl_hf.selection.result.record import SelectionRecord
    from itl_hf.selection.result.selection import Layout, Selection

CARD = "README.md"
FEATURES_FILE = "features/train-00000-of-00001.parquet"
DOTS_PER_INCH = 160
#: Without the targets, similarities above this are published as this, and the map shows targets on a grid of so many
#: points in each direction.
MAX_SIMILARITY, GRID = 0.99, 64


def write_contents(
    selection: Selection, directory: Path, publication: Publication, features: np.ndarray | None = None
) -> Path:
    """Writes the content of the repository to a folder.

    Args:
        selection (`Selection`):
            The selection to publish.
        directory (`Path`):
            An empty folder, or one that does not exist yet.
        publication (`Publication`):
            Where it is published, and what is published with it.
        features (`np.ndarray`, *optional*):
            (n, d), the features of the picks, from `picked_features`.

    Returns:
        `Path`: The folder.
    """
    public = public_selection(selection, publication.include_targets)
    public.save(directory)
    if features is not None:
        (directory / "features").mkdir()
        write_parquet(features_dataset(selection, features), directory / FEATURES_FILE)
    (directory / "pictures").mkdir()
    pictures = {
        "map": map_figure(public.layout, pool_size=selection.pool_size),
        "variance": variance_figure(selection.target_variance, selection.irreducible),
    }
    for name, figure in pictures.items():
        figure.savefig(directory / "pictures" / f"{name}.png", dpi=DOTS_PER_INCH)
    card = with_marks(write_card(public, publication))
    (directory / CARD).write_text(card, encoding="utf-8")
    return directory


def public_selection(selection: Selection, with_targets: bool) -> Selection:
    """Returns the selection without what is not published, and with the column of the variance that is left.

    Raises:
        `ValueError`: If the dataset already has that column, or targets are to be included that were not published when
            the selection was loaded from the Hub.
    """
    if VARIANCE_COLUMN in selection.dataset.column_names:
        raise ValueError(f"the dataset already has the column {VARIANCE_COLUMN}, which publishing adds; rename it")
    if with_targets and WITHHELD_COLUMN in selection.targets.column_names:
        raise ValueError(
            "this selection came from the Hub without its target prompts, so they cannot be published; leave out "
            "include_targets"
        )
    record = selection.record
    column = group_column(selection.dataset.column_names, (record.coverage or {}).get("column"))
    groups = {str(name) for name in selection.dataset[column]} if column else set()
    own_record = public_record(record, with_targets=with_targets, picked_groups=groups)
    public = replace(selection, record=own_record, extend_fn=None, replay=None)  # the picks alone are published
    prior_variance = max(float(selection.target_variance[0].sum()), np.finfo(np.float64).tiny)
    variance_left = selection.target_variance[1:].sum(1) / prior_variance  # (n,)
    public = replace(public, dataset=public.dataset.add_column(VARIANCE_COLUMN, variance_left.tolist()))
    return public if with_targets else without_targets(public)


def without_targets(selection: Selection) -> Selection:
    """Returns the selection without the text of the targets and without numbers that say which row equals a target.

    A copy of a target has the similarity 1 and the target's place on the map. Similarities are therefore at most
    `MAX_SIMILARITY`, as those of rows that are only near, and targets are moved to the nearest point of a grid.
    """
    similarity = np.minimum(selection.dataset["itl_similarity"], MAX_SIMILARITY)
    columns = selection.dataset.column_names
    dataset = selection.dataset.remove_columns("itl_similarity").add_column("itl_similarity", similarity.tolist())
    return replace(
        selection,
        dataset=dataset.select_columns(columns),
        targets=placeholder_targets(len(selection.targets)),
        reach=np.minimum(selection.reach, MAX_SIMILARITY),
        layout=_on_grid(selection.layout),
    )


def _on_grid(layout: Layout) -> Layout:
    """Moves the targets on the map to the points of a grid of `GRID` by `GRID` over the whole map."""
    points = np.concatenate([layout.pool, layout.targets, layout.picks])  # (P + m + n, 2)
    lowest = points.min(0)
    step = np.maximum(points.max(0) - lowest, np.finfo(np.float32).tiny) / GRID
    targets = lowest + (np.floor((layout.targets - lowest) / step) + 0.5) * step
    return replace(layout, targets=targets.astype(layout.targets.dtype))


def placeholder_targets(count: int) -> Dataset:
    """Returns rows that replace target prompts which are not published."""
    prompts = [f"(target {number}: its prompt is not published)" for number in range(count)]
    return Dataset.from_dict({"prompt": prompts, WITHHELD_COLUMN: [True] * count})


def picked_features(selection: Selection, store: str | os.PathLike[str] | bool | None = None) -> np.ndarray:
    """Returns the feature rows of the picks from memory, from the selector's store, or from the default cache.

    Args:
        selection (`Selection`):
            The selection.
        store (`str`, `PathLike` or `bool`, *optional*):
            The `store=` of the selector; left out, the default cache.

    Returns:
        `np.ndarray`: (n, d).

    Raises:
        `ValueError`: If the features are neither in memory nor in the store.
    """
    if selection.features is not None:
        return np.asarray(selection.features)
    record = selection.record
    if selection.shortlist_rows is not None and record.shortlist is not None:
        parts = [_stored_features(store, record, rows_hash)[:] for rows_hash, _ in record.shortlist["parts"]]
        order = np.argsort(selection.shortlist_rows)
        places = order[np.searchsorted(selection.shortlist_rows[order], selection.indices)]
        return np.asarray(np.concatenate(parts)[places])
    return np.asarray(_stored_features(store, record, record.pool_fingerprint or "")[selection.indices])


def _stored_features(
    store: str | os.PathLike[str] | bool | None, record: SelectionRecord, rows_hash: str
) -> StoredFeatures:
    features = stored_features(store, record.embedder or {}, rows_hash)
    if features is not None:
        return features
    if isinstance(store, str | os.PathLike):
        raise ValueError(f"{os.fspath(store)} holds no features of this selection's pool under its embedder")
    raise ValueError(
        "this selection no longer holds features, and the cache does not have them; pass store=, the folder of "
        "`Selector(store=...)`, or leave out include_features"
    )


def features_dataset(selection: Selection, features: np.ndarray) -> Dataset:
    """Returns a table with the rank, the row number in the pool and the features of each pick.

    Raises:
        `ValueError`: If there is not one feature row for each pick.
    """
    if features.ndim != 2 or len(features) != len(selection):
        raise ValueError(f"features must be ({len(selection)}, d), a row for each pick, got shape {features.shape}")
    width = features.shape[1]
    dtype = "float16" if features.dtype == np.float16 else "float32"
    values = pa.array(np.ascontiguousarray(features, dtype=dtype).reshape(-1))
    types = {"itl_rank": Value("int64"), "pool_index": Value("int64"), "features": List(Value(dtype), length=width)}
    columns = [np.arange(len(selection)), selection.indices, pa.FixedSizeListArray.from_arrays(values, width)]
    schema = Features(types).arrow_schema
    return Dataset(pa.table(columns, names=list(types)).cast(schema))
