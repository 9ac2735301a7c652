"""Drives an embedder over a dataset, shard by shard, keeping what is done.

All rows are read once before the model runs: a bad row far down fails in seconds, and their hash ties the stored
features to these very rows. One process for now.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm.auto import tqdm

from itl_hf.embedding.embedder import Embedded
from itl_hf.embedding.store import FeatureStore
from itl_hf.text import TEXT_COLUMNS, Row, row_format

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.embedding.embedder import Embedder

CHECK_ROWS = 1024


def embed(
    dataset: Dataset,
    embedder: Embedder,
    directory: str | Path | None = None,
    *,
    shard_rows: int = 512,
    description: str = "embedding",
    rows_hash: str | None = None,
) -> np.ndarray:
    """Features of every row of a dataset.

    With a directory each shard is saved as soon as it is done; called again after an interruption, what is there is not
    computed a second time. Features of other rows, another model or other settings are refused, never mixed in.

    Args:
        dataset (`Dataset`):
            Rows as `itl_hf.text.row_format` describes them; columns without text are ignored.
        embedder (`Embedder`):
            For instance `HiddenStates`.
        directory (`str` or `Path`, *optional*):
            Where to keep the features (a `FeatureStore`). Without it they live in memory alone.
        shard_rows (`int`, *optional*, defaults to 512):
            Rows in a shard: what an interruption can cost at most. A store that exists keeps its own.
        description (`str`, *optional*, defaults to `"embedding"`):
            Label of the progress bar.
        rows_hash (`str`, *optional*):
            What `rows_fingerprint(dataset, embedder)` gave, if it was called: the rows are then not read for it again.

    Returns:
        `np.ndarray`: shape (N, d), float32, rows in the dataset's order.

    Raises:
        ValueError: a row without text or with features that are not finite, no column with text, or a directory that
        holds other work.

    Example:
        >>> features = embed(dataset, HiddenStates("HuggingFaceTB/SmolLM2-135M-Instruct"), "features/pool")
    """
    if shard_rows < 1:
        raise ValueError(f"shard_rows must be at least 1, got {shard_rows}.")
    digest = rows_fingerprint(dataset, embedder) if rows_hash is None else rows_hash
    rows = _text_columns(dataset)
    if directory is None:
        return _in_memory(rows, embedder, shard_rows, description)
    store = FeatureStore(
        directory,
        {**embedder.fingerprint(), "rows_hash": digest},
        rows=len(rows),
        dimension=embedder.dimension,
        shard_rows=shard_rows,
    )
    missing = store.missing()
    ranges = [store.row_range(shard) for shard in missing]
    left = sum(end - first for first, end in ranges)
    with _progress(description, len(rows), len(rows) - left) as bar:
        for shard, (first, end) in zip(missing, ranges, strict=True):
            store.write(shard, _embed_range(rows, embedder, first, end, bar.update))
    _report_truncation(embedder)
    return store.features()


def rows_fingerprint(dataset: Dataset, embedder: Embedder | None = None) -> str:
    """Hash of the rows' text, whatever else the dataset holds and however it is stored.

    Args:
        dataset (`Dataset`):
            Rows as `itl_hf.text.row_format` describes them.
        embedder (`Embedder`, *optional*):
            Asked to check each row on the way, if it can.

    Raises:
        ValueError: no column with text, or a row that the embedder cannot read.
    """
    rows = _text_columns(dataset)
    check = getattr(embedder, "check", None)
    digest = hashlib.sha256(json.dumps(sorted(rows.column_names)).encode())
    for first in _steps(len(rows), CHECK_ROWS):
        batch = _rows(rows, first, min(first + CHECK_ROWS, len(rows)))
        if check is not None:
            check(batch, first)
        for row in batch:
            digest.update(json.dumps(row, sort_keys=True, default=repr).encode())
    return digest.hexdigest()[:32]


def _text_columns(dataset: Dataset) -> Dataset:
    row_format(dataset.column_names)
    return dataset.select_columns([name for name in dataset.column_names if name in TEXT_COLUMNS]).with_format(None)


def _in_memory(rows: Dataset, embedder: Embedder, shard_rows: int, description: str) -> np.ndarray:
    features = np.empty((len(rows), embedder.dimension), dtype=np.float32)  # (N, d)
    with _progress(description, len(rows), 0) as bar:
        for first in range(0, len(rows), shard_rows):
            end = min(first + shard_rows, len(rows))
            features[first:end] = _embed_range(rows, embedder, first, end, bar.update)
    _report_truncation(embedder)
    return features


def _embed_range(rows: Dataset, embedder: Embedder, first: int, end: int, on_rows: Callable[[int], Any]) -> np.ndarray:
    embedded = embedder.embed(_rows(rows, first, end), first_row=first, on_rows=on_rows)
    features = (embedded.features if isinstance(embedded, Embedded) else embedded).numpy()  # (end - first, d)
    finite = np.isfinite(features).all(axis=1)
    if not finite.all():
        raise ValueError(
            f"row {first + int(np.flatnonzero(~finite)[0])}: its features are not finite (NaN or infinity). A model "
            "in float16 overflows easily: use dtype='float32' or 'bfloat16'. If it happens there too, the model's "
            "weights "
            "are damaged."
        )
    return features


def _steps(total: int, step: int) -> Iterator[int]:
    """Starts of the steps, with a bar that shows only where reading takes longer than two seconds."""
    with tqdm(total=total, desc="checking rows", unit="row", delay=2, leave=False) as bar:
        for first in range(0, total, step):
            yield first
            bar.update(min(step, total - first))


def _rows(dataset: Dataset, first: int, end: int) -> list[Row]:
    columns = dataset[first:end]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _progress(description: str, total: int, done: int) -> tqdm[Any]:
    return tqdm(total=total, initial=done, desc=description, unit="row", disable=None if done < total else True)


def _report_truncation(embedder: Embedder) -> None:
    report = getattr(embedder, "report_truncation", None)
    if report is not None:
        report()
