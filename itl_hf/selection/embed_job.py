"""`EmbedJob`: rows to embed that are read and checked, and the embedding of them into a store or memory."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from datasets import Dataset

from itl_hf.disk.checks import expand
from itl_hf.embedding.cached import embed_cached
from itl_hf.embedding.embed import embed
from itl_hf.embedding.embedders.base import Embedder, Fingerprint
from itl_hf.embedding.reading import RowReading
from itl_hf.embedding.row_reading import read_dataset
from itl_hf.embedding.store.cache import FeatureCache
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.embedding.store.store_checks import check_can_embed_into
from itl_hf.embedding.store.token_counts import COUNTS_FOLDER
from itl_hf.selection.feature_arrays import Features
from itl_hf.text import ColumnMapping, TextRows
from itl_hf.text.alike import collect_alike_rows

#: Where features are kept: a folder, the default cache, or nowhere.
Store: TypeAlias = Path | FeatureCache | None


def resolve_store(store: str | os.PathLike[str] | bool | None) -> Store:
    """Returns where features are kept: in a folder, in the default cache (`None`, `True`) or nowhere (`False`)."""
    if store is False:
        return None
    return FeatureCache() if store is None or store is True else expand(store)


@dataclasses.dataclass(frozen=True)
class EmbedJob:
    """Rows to embed, read and checked.

    Args:
        dataset (`Dataset`):
            The rows.
        rows (`TextRows`):
            The text of these rows.
        name (`str`):
            `"pool"` or `"targets"`, for messages.
        embedder (`Embedder`):
            What embeds them.
        fingerprint (`dict`):
            The embedder's fingerprint.
        reading (`RowReading`):
            What the one pass over the rows' text found.
    """

    dataset: Dataset
    rows: TextRows
    name: str
    embedder: Embedder
    fingerprint: Fingerprint
    reading: RowReading

    def by(self, embedder: Embedder) -> EmbedJob:
        """Returns the same rows for another embedder."""
        return dataclasses.replace(self, embedder=embedder, fingerprint=embedder.fingerprint())

    def without_bad_rows(self) -> EmbedJob:
        """Returns the rows that can be read."""
        good_rows = np.setdiff1d(np.arange(len(self.dataset)), self.reading.bad_rows.rows)
        return self if len(good_rows) == len(self.dataset) else self.subset(good_rows, self.name)

    def subset(self, rows: np.ndarray, name: str) -> EmbedJob:
        """Returns some of the rows, (M,) row numbers, as a dataset of their own."""
        reading = self.reading.subset(rows)
        parts = {"dataset": self.dataset.select(rows), "rows": self.rows.select(rows)}
        return dataclasses.replace(self, **parts, name=name, reading=reading)

    def directory(self, store: Store) -> Path | None:
        """Returns the folder of the features within the store or the cache; `None` if they stay in memory."""
        if isinstance(store, FeatureCache):
            return store.directory(self.embedder, self.fingerprint, self.reading.keys.hash)
        return None if store is None else feature_directory(store, self.fingerprint, self.reading.keys.hash)

    def embed(self, store: Store) -> Features:
        """Embeds the rows, (N, d): into the store, the cache or, without them, into memory."""
        directory = self.directory(store)
        options: dict[str, Any] = {
            "description": f"embedding {self.name}",
            "fingerprint": self.fingerprint,
            "rows_hash": self.reading.keys,
        }
        if isinstance(store, FeatureCache) and directory is not None:
            return embed_cached(self.rows, self.embedder, store, directory, **options)
        if directory is not None:
            check_can_embed_into(directory)
        return embed(self.rows, self.embedder, directory, **options)


def make_embed_job(
    dataset: Dataset,
    name: str,
    embedder: Embedder,
    also_check: Embedder | None = None,
    columns: ColumnMapping | None = None,
    store: Store = None,
    **options: Any,
) -> EmbedJob:
    """Reads and checks the rows of a dataset; several processes share the reading, and must all call this together.

    Args:
        dataset (`Dataset`):
            The rows.
        name (`str`):
            `"pool"` or `"targets"`, for messages.
        embedder (`Embedder`):
            What embeds them.
        also_check (`Embedder`, *optional*):
            Another embedder that must be able to embed the rows.
        columns (`ColumnMapping`, *optional*):
            Which column holds which part of a row.
        store (`Path` or `FeatureCache`, *optional*):
            Where numbers of tokens are kept, if tokens are counted.
        **options:
            Options of `read_dataset`, such as `skip_bad_rows`.

    Raises:
        `ValueError`: If a row cannot be read or embedded.
    """
    if options.get("count_tokens"):
        options["counts_folder"] = _counts_folder(store, embedder)
    try:
        rows = TextRows(dataset, columns, name)
        with collect_alike_rows() as alike:
            reading = read_dataset(rows, embedder, also_check=also_check, share_rows=True, **options)
        job = EmbedJob(dataset, rows, name, embedder, embedder.fingerprint(), reading)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    bad_rows = reading.bad_rows
    if len(bad_rows) == len(rows):
        raise ValueError(f"{name}: {bad_rows.message(len(rows))}\nNo row is left.")
    if len(bad_rows):
        warnings.warn(f"{name}: left out, because {bad_rows.message(len(rows))}", stacklevel=5)
    for message in (rows.filled_keys_message(), alike.message()):
        if message is not None:
            warnings.warn(f"{name}: {message}", stacklevel=5)
    return job


def _counts_folder(store: Store, embedder: Embedder) -> Path | None:
    """Returns the folder of token counts within the store or the cache; `None` if nothing is kept."""
    if isinstance(store, FeatureCache):
        return store.counts_folder(embedder)
    return None if store is None else store / COUNTS_FOLDER
