"""`embed`: the features of a dataset, on one process or many, kept in a directory or in memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, overload

import datasets
import numpy as np

from itl_hf.distributed import Processes
from itl_hf.embedding.driver import Settings, in_memory, into_store, stream_into_store
from itl_hf.embedding.embedders.base import check_embedder
from itl_hf.embedding.row_keys import RowKeys, row_keys, rows_fingerprint, text_columns
from itl_hf.embedding.store.manifest import DTYPES
from itl_hf.embedding.store.stored_features import StoredFeatures

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from itl_hf.embedding.embedders.base import Embedder, Fingerprint

__all__ = ["embed", "row_keys", "rows_fingerprint"]


@overload
def embed(
    dataset: Dataset,
    embedder: Embedder,
    directory: None = None,
    *,
    shard_rows: int = ...,
    description: str = ...,
    dtype: str | None = ...,
    fingerprint: Fingerprint | None = ...,
    rows_hash: str | RowKeys | None = ...,
) -> np.ndarray: ...
@overload
def embed(
    dataset: Dataset | IterableDataset,
    embedder: Embedder,
    directory: str | Path,
    *,
    shard_rows: int = ...,
    description: str = ...,
    dtype: str | None = ...,
    fingerprint: Fingerprint | None = ...,
    rows_hash: str | RowKeys | None = ...,
) -> StoredFeatures: ...
@overload
def embed(
    dataset: Dataset,
    embedder: Embedder,
    directory: str | Path | None,
    *,
    shard_rows: int = ...,
    description: str = ...,
    dtype: str | None = ...,
    fingerprint: Fingerprint | None = ...,
    rows_hash: str | RowKeys | None = ...,
) -> np.ndarray | StoredFeatures: ...
def embed(
    dataset: Dataset | IterableDataset,
    embedder: Embedder,
    directory: str | Path | None = None,
    *,
    shard_rows: int = 512,
    description: str = "embedding",
    dtype: str | None = None,
    fingerprint: Fingerprint | None = None,
    rows_hash: str | RowKeys | None = None,
) -> np.ndarray | StoredFeatures:
    """Features of every row of a dataset.

    With a directory each shard is saved as soon as it is done; called again after an interruption, on as many processes
    as you like, what is there is not computed a second time. Features of other rows, another model or other settings
    are refused, never mixed in. Equal rows are embedded once (of a stream: within a shard).

    Under `torchrun` or `accelerate launch` all processes call it with the same arguments and share the work; the
    directory must be one that all of them see. Without a directory every process ends with all features in its memory.

    Args:
        dataset (`Dataset` or `IterableDataset`):
            Rows as `itl_hf.text.row_format` describes them; columns without text are ignored. A stream needs a
            directory, and must give the same rows in the same order each time.
        embedder (`Embedder`):
            For instance `HiddenStates`.
        directory (`str` or `Path`, *optional*):
            Where to keep the features (a `FeatureStore`). Without it they live in memory alone.
        shard_rows (`int`, *optional*, defaults to 512):
            Rows in a shard: what an interruption can cost each process. A store that exists keeps its own.
        description (`str`, *optional*, defaults to `"embedding"`):
            Label of the progress bar, which the first process shows.
        dtype (`str`, *optional*):
            `"float32"` or `"float16"`: what features are kept in. Defaults to the embedder's `storage_dtype`, else
            `"float32"`.
        fingerprint (`dict`, *optional*):
            What `embedder.fingerprint()` gives, if it is known: that reads all weights of a model.
        rows_hash (`str` or `RowKeys`, *optional*):
            What `rows_fingerprint(dataset, embedder)` or `row_keys(dataset, embedder)` gave: rows are then not checked
            again. With `RowKeys` they are not read again either; with the hash alone they are, unless a store knows
            already which rows are equal.

    Returns:
        `np.ndarray` or, with a directory, `StoredFeatures`: shape (N, d), rows in the dataset's order.

    Raises:
        `ValueError`: A row without text or with features that are not finite, no column with text, or a directory that.
        holds other work.
        `TypeError`: Another kind of dataset, or a stream without a directory.
        `OSError`: The disk is full (what was saved is kept), or another run is embedding into the directory.
        `OtherProcessFailed`: Another process failed; a `RuntimeError`.

    Example:
        >>> from itl_hf import HiddenStates
        >>> embedder = HiddenStates(model)  # such as "HuggingFaceTB/SmolLM2-135M-Instruct"
        >>> features = embed(pool, embedder, "features/pool")
        >>> features.shape == (len(pool), embedder.dimension)
        True
    """
    check_embedder(embedder)
    if shard_rows < 1:
        raise ValueError(f"shard_rows must be at least 1, got {shard_rows}.")
    settings = Settings(embedder, shard_rows, description, _storage_dtype(embedder, dtype), fingerprint)
    streamed = isinstance(dataset, datasets.IterableDataset)
    if streamed and (directory is None or rows_hash is not None):
        raise TypeError("a streaming dataset needs a directory to embed into, and no rows_hash.")
    if not streamed and not isinstance(dataset, datasets.Dataset):
        raise TypeError(
            f"dataset must be a datasets.Dataset or IterableDataset, got {type(dataset).__name__}. "
            "itl_hf.text.as_dataset makes one of lists and splits."
        )
    features: np.ndarray | StoredFeatures
    with Processes() as processes:
        if directory is None:
            features = in_memory(text_columns(dataset), settings, rows_hash, processes)
        elif streamed:
            features = stream_into_store(dataset, Path(directory), settings, processes)
        else:
            features = into_store(text_columns(dataset), Path(directory), settings, rows_hash, processes)
    embedder.report_truncation()
    return features


def _storage_dtype(embedder: Embedder, dtype: str | None) -> str:
    chosen = embedder.storage_dtype if dtype is None else dtype
    if chosen not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {chosen!r}.")
    return str(chosen)
