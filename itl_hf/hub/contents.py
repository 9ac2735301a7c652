"""What is published, as a folder: made and checked whole before the Hub hears of it.

Two things of a selection stay at home unless they are asked for: the text of the targets, which are the users' own
prompts, and the place of a local model on their disk.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features, List, Value

from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.hub.card import Published, write_card
from itl_hf.hub.restore import VARIANCE_COLUMN, WITHHELD
from itl_hf.report.figures import map_figure, variance_figure
from itl_hf.selection.result.files import write_parquet
from itl_hf.selection.result.record import SelectionRecord

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Selection

FEATURES_FILE = "features/train-00000-of-00001.parquet"
DOTS_PER_INCH = 160


def write_contents(
    selection: Selection, directory: Path, published: Published, features: np.ndarray | None = None
) -> Path:
    """Writes the repository into a folder that is not there yet.

    Args:
        selection (`Selection`):
            What to publish.
        directory (`Path`):
            The folder.
        published (`Published`):
            What else is known and asked for.
        features (`np.ndarray`, *optional*):
            (n, d), see `picked_features`.
    """
    public = public_selection(selection, published.targets)
    public.save(directory)
    if features is not None:
        (directory / "features").mkdir()
        write_parquet(features_dataset(selection, features), directory / FEATURES_FILE)
    (directory / "pictures").mkdir()
    pictures = {
        "map": map_figure(selection.layout, pool_size=selection.pool_size),
        "variance": variance_figure(selection.target_variance, selection.irreducible),
    }
    for name, figure in pictures.items():
        figure.savefig(directory / "pictures" / f"{name}.png", dpi=DOTS_PER_INCH)
    (directory / "README.md").write_text(write_card(public, published), encoding="utf-8")
    return directory


def public_selection(selection: Selection, with_targets: bool) -> Selection:
    """The selection as others may see it, with the column of the variance that is left.

    Raises:
        `ValueError`: The dataset has that column already, or targets are asked for that were withheld before.
    """
    if VARIANCE_COLUMN in selection.dataset.column_names:
        raise ValueError(f"the dataset already has the column {VARIANCE_COLUMN}, which publishing adds; rename it")
    if with_targets and WITHHELD in selection.targets.column_names:
        raise ValueError(
            "this selection came from the Hub without its target prompts, so they cannot be published; leave out "
            "include_targets"
        )
    start = max(float(selection.target_variance[0].sum()), np.finfo(np.float64).tiny)
    left = selection.target_variance[1:].sum(1) / start  # (n,)
    return replace(
        selection,
        dataset=selection.dataset.add_column(VARIANCE_COLUMN, left.tolist()),
        targets=selection.targets if with_targets else withheld(len(selection.targets)),
        record=SelectionRecord.from_json(without_paths(selection.record.to_json())),
        extend_fn=None,
    )


def withheld(count: int) -> Dataset:
    """Rows that stand for prompts which are not published."""
    prompts = [f"(target {number}: its prompt is not published)" for number in range(count)]
    return Dataset.from_dict({"prompt": prompts, WITHHELD: [True] * count})


def without_paths(value: Any) -> Any:
    """A record in which each absolute path is only the name at its end: folders tell who someone is."""
    if isinstance(value, Mapping):
        return {key: without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_paths(item) for item in value]
    if isinstance(value, str):
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(value).is_absolute():
                return kind(value).name
    return value


def picked_features(selection: Selection, store: str | os.PathLike[str] | None = None) -> np.ndarray:
    """Feature rows of the picks, (n, d), from memory or from the store that the selector kept them in.

    Args:
        selection (`Selection`):
            Its picks.
        store (`str` or `PathLike`, *optional*):
            What `Selector(store=...)` was given.

    Raises:
        `ValueError`: Neither has them.
    """
    if selection.features is not None:
        return np.asarray(selection.features)
    if store is None:
        raise ValueError(
            "this selection no longer holds features; pass store=, the folder that `Selector(store=...)` kept them "
            "in, or leave out include_features"
        )
    record = selection.record
    directory = feature_directory(store, record.embedder or {}, record.pool_fingerprint or "")
    if not directory.exists():
        raise ValueError(f"{os.fspath(store)} holds no features of this selection's pool under its embedder")
    return np.asarray(FeatureStore.open(directory).features()[selection.indices])


def features_dataset(selection: Selection, features: np.ndarray) -> Dataset:
    """A table of rank, pool row and feature row.

    Raises:
        `ValueError`: Not one feature row for each pick.
    """
    if features.ndim != 2 or len(features) != len(selection):
        raise ValueError(f"features must be ({len(selection)}, d), a row for each pick, got shape {features.shape}")
    width = features.shape[1]
    kind = "float16" if features.dtype == np.float16 else "float32"
    flat = pa.array(np.ascontiguousarray(features, dtype=kind).reshape(-1))
    types = {"itl_rank": Value("int64"), "pool_index": Value("int64"), "features": List(Value(kind), length=width)}
    columns = [np.arange(len(selection)), selection.indices, pa.FixedSizeListArray.from_arrays(flat, width)]
    schema = Features(types).arrow_schema
    return Dataset(pa.table(columns, names=list(types)).cast(schema))
