"""`embed` computes the features of a dataset on one or several processes, into a directory or into memory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, overload

import datasets
import numpy as np

from itl_hf.embedding.driver import EmbedSettings, embed_in_memory, embed_into_store, embed_stream_into_store
from itl_hf.embedding.embedders.base import check_embedder
from itl_hf.embedding.row_keys import RowKeys, row_keys, rows_fingerprint, text_columns
from itl_hf.embedding.store.manifest import DTYPES
from itl_hf.embedding.store.stored_features import StoredFeatures
from itl_hf.processes import Processes
from itl_hf.text import TextRows

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from itl_hf.embedding.embedders.base import Embedder, Fingerprint

__all__ = ["embed", "row_keys", "rows_fingerprint"]


@overload
def embed(
    dataset: Dataset | TextRows,
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
    dataset: Dataset | TextRows | IterableDataset,
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
    dataset: Dataset | TextRows,
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
    dataset: Dataset | TextRows | IterableDataset,
    embedder: Embedder,
    directory: str | Path | None = None,
    *,
    shard_rows: int = 512,
    description: str = "embedding",
    dtype: str | None = None,
    fingerprint: Fingerprint | None = None,
    rows_hash: str | RowKeys | None = None,
) -> np.ndarray | StoredFeatures:
    """Computes the features of every row of a dataset.

    With a directory, each shard is saved as soon as it is embedded. Called again after an interruption, on any number
    of processes, `embed` computes only the shards that are missing. A directory with features of other rows, another
    model or other settings raises an error. Equal rows are embedded once (in a stream: once per shard).

    Under `torchrun` or `accelerate launch` all processes must call it with the same arguments; they divide the shards
    among themselves. The directory must be on a file system that all of them share. Without a directory every process
    ends with all features in its memory.

    Args:
        dataset (`Dataset`, `TextRows` or `IterableDataset`):
            Rows as `itl_hf.text.row_format` describes them; columns without text are ignored. A stream needs a
            directory, and must give the same rows in the same order each time.
        embedder (`Embedder`):
            For instance `HiddenStates`.
        directory (`str` or `Path`, *optional*):
            Where to store the features (a `FeatureStore`). Without it they are kept in memory only.
        shard_rows (`int`, *optional*, defaults to 512):
            Number of rows in a shard: the most that an interruption can cost each process. An existing store keeps its
            own number.
        description (`str`, *optional*, defaults to `"embedding"`):
            Label of the progress bar, which the first process shows.
        dtype (`str`, *optional*):
            `"float32"` or `"float16"`: the type that features are stored in. Defaults to `embedder.storage_dtype`.
        fingerprint (`dict`, *optional*):
            The result of `embedder.fingerprint()`, if the caller has it: computing it reads all weights of a model.
        rows_hash (`str` or `RowKeys`, *optional*):
            The result of `rows_fingerprint(dataset, embedder)` or `row_keys(dataset, embedder)`: the rows are then not
            checked again. With `RowKeys` they are not read again either. With the hash alone they are read, unless a
            store exists that holds the index of equal rows.

    Returns:
        `np.ndarray` or, with a directory, `StoredFeatures`: Shape (N, d), rows in the dataset's order.

    Raises:
        `ValueError`: If a row has no text, no row of a shard has finite features (single rows are reported, and never
            picked), no column holds text, or the directory holds features made from other inputs.
        `TypeError`: If the dataset is of another type, or a stream comes without a directory.
        `OSError`: If the disk is full (shards saved before are kept), or another run is embedding into the directory.
        `OtherProcessFailed`: If another process failed; a `RuntimeError`.

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
    storage_dtype = str(embedder.storage_dtype if dtype is None else dtype)
    if storage_dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, got {storage_dtype!r}.")
    settings = EmbedSettings(embedder, shard_rows, description, storage_dtype, fingerprint)
    is_stream = isinstance(dataset, datasets.IterableDataset)
    if is_stream and (directory is None or rows_hash is not None):
        raise TypeError("a streaming dataset needs a directory to embed into, and no rows_hash.")
    if not is_stream and not isinstance(dataset, datasets.Dataset | TextRows):
        raise TypeError(
            f"dataset must be a datasets.Dataset or IterableDataset, got {type(dataset).__name__}. "
            "itl_hf.text.as_dataset makes one of lists and splits."
        )
    features: np.ndarray | StoredFeatures
    with Processes() as processes:
        if directory is None:
            features = embed_in_memory(text_columns(dataset), settings, rows_hash, processes)
        elif is_stream:
            features = embed_stream_into_store(dataset, Path(directory), settings, processes)
        else:
            features = embed_into_store(text_columns(dataset), Path(directory), settings, rows_hash, processes)
    embedder.report_truncation()
    return features
