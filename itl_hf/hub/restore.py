"""Loads a published selection from the Hub and checks that its files belong together."""

from __future__ import annotations

import warnings
from dataclasses import replace
from functools import partial
from pathlib import Path

import pyarrow as pa
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors import SafetensorError

from itl_hf.embedding.store.atomic_files import DamagedError
from itl_hf.hub.retry import with_retries
from itl_hf.selection.result.columns import COLUMNS, VARIANCE_COLUMN, WITHHELD_COLUMN
from itl_hf.selection.result.folder import FACTS, FILES
from itl_hf.selection.result.selection import Selection


def restore(repo_id: str, revision: str | None = None, token: str | bool | None = None) -> Selection:
    """Loads a published selection; `Selection.from_hub` documents the arguments and errors."""
    folder = _download(repo_id, revision, token)
    where = f"{repo_id}" + (f" at {revision}" if revision else "")
    missing = [name for name in FILES if not (folder / name).exists()]
    if FACTS in missing:
        raise FileNotFoundError(f"{where} holds no selection (no {FACTS}); load_dataset opens other datasets")
    if missing:
        raise FileNotFoundError(f"{where} holds only a part of a selection: {', '.join(missing)} is missing")
    try:
        selection = Selection.load(folder)
    except (DamagedError, KeyError, TypeError, pa.ArrowException, SafetensorError) as error:
        raise ValueError(f"{where} holds a damaged selection: {type(error).__name__}: {error}") from error
    selection = replace(
        selection,
        dataset=selection.dataset.remove_columns(
            [name for name in selection.dataset.column_names if name == VARIANCE_COLUMN]
        ),
    )
    _check_consistency(selection, where)
    if WITHHELD_COLUMN in selection.targets.column_names:
        warnings.warn(
            f"the target prompts of {where} were not published: selection.targets has placeholders instead, and to "
            "select again you need the prompts themselves",
            stacklevel=3,
        )
    return selection


def _download(repo_id: str, revision: str | None, token: str | bool | None) -> Path:
    """Downloads the files of one commit to the cache, or takes them from the cache if there is no connection."""
    download = partial(
        snapshot_download, repo_id, repo_type="dataset", revision=revision, token=token, allow_patterns=list(FILES)
    )
    try:
        # First, because `snapshot_download` alone would return an old copy from the cache if the Hub refuses access.
        with_retries(lambda: HfApi(token=token).dataset_info(repo_id, revision=revision), f"looking at {repo_id}")
        return Path(with_retries(download, f"loading {repo_id}"))
    except ConnectionError as error:
        try:
            return Path(download(local_files_only=True))
        except LocalEntryNotFoundError:
            raise ConnectionError(f"{error}, and no copy of it is in the cache") from error


def _check_consistency(selection: Selection, where: str) -> None:
    """Raises `ValueError` if the files do not belong to the same selection."""
    num_picks, num_targets = len(selection.indices), len(selection.targets)
    missing = sorted(set(COLUMNS) - set(selection.dataset.column_names))
    if missing:
        raise ValueError(f"{where} holds a damaged selection: its rows lack the columns {missing}")
    if selection.dataset["pool_index"][:] != selection.indices.tolist():
        raise ValueError(f"{where} holds a damaged selection: rows and arrays.safetensors are of different picks")
    shapes = {
        "gains": (selection.gains.shape, (num_picks,)),
        "target_variance": (selection.target_variance.shape, (num_picks + 1, num_targets)),
        **{name: (getattr(selection, name).shape, (num_targets,)) for name in ("irreducible", "whole_pool", "reach")},
    }
    for name, (shape, expected_shape) in shapes.items():
        if shape != expected_shape:
            raise ValueError(
                f"{where} holds a damaged selection: {name} has the shape {shape} instead of {expected_shape}"
            )
