"""`EmbedJob`: rows to embed that are read and checked, and the embedding of them into a store or memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from datasets import Dataset

from itl_hf.embedding.embed import embed
from itl_hf.embedding.embedders.base import Embedder, Fingerprint
from itl_hf.embedding.row_keys import RowKeys
from itl_hf.embedding.row_reading import RowReading, read_dataset
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.selection.feature_arrays import Features


@dataclasses.dataclass(frozen=True)
class EmbedJob:
    """Rows to embed, read and checked.

    Args:
        dataset (`Dataset`):
            The rows.
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
    name: str
    embedder: Embedder
    fingerprint: Fingerprint
    reading: RowReading

    def by(self, embedder: Embedder) -> EmbedJob:
        """Returns the same rows for another embedder."""
        return dataclasses.replace(self, embedder=embedder, fingerprint=embedder.fingerprint())

    def subset(self, rows: np.ndarray, name: str) -> EmbedJob:
        """Returns some of the rows, (M,) row numbers, as a dataset of their own."""
        keys = RowKeys(self.reading.keys.columns, self.reading.keys.keys[rows])
        reading = dataclasses.replace(self.reading, keys=keys)
        return dataclasses.replace(self, dataset=self.dataset.select(rows), name=name, reading=reading)

    def embed(self, store: Path | None) -> Features:
        """Embeds the rows, (N, d): into the store or, without one, into memory."""
        directory = None
        if store is not None:
            directory = feature_directory(store, self.fingerprint, self.reading.keys.hash)
        return embed(
            self.dataset,
            self.embedder,
            directory,
            description=f"embedding {self.name}",
            fingerprint=self.fingerprint,
            rows_hash=self.reading.keys,
        )


def make_embed_job(
    dataset: Dataset, name: str, embedder: Embedder, also_check: Embedder | None = None, **options: bool
) -> EmbedJob:
    """Reads and checks the rows of a dataset.

    Args:
        dataset (`Dataset`):
            The rows.
        name (`str`):
            `"pool"` or `"targets"`, for messages.
        embedder (`Embedder`):
            What embeds them.
        also_check (`Embedder`, *optional*):
            Another embedder that must be able to embed the rows.
        **options (`bool`):
            Options of `read_dataset`.

    Raises:
        `ValueError`: If a row cannot be read or embedded.
    """
    try:
        reading = read_dataset(dataset, embedder, also_check=also_check, **options)
        return EmbedJob(dataset, name, embedder, embedder.fingerprint(), reading)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
