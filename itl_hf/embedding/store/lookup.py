"""`stored_features`: opens the features that a selection was made from, in a store or in the default cache."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from itl_hf.disk.checks import expand
from itl_hf.embedding.store.cache import FeatureCache, is_finished
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.paths import feature_directory

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Fingerprint
    from itl_hf.embedding.store.stored_features import StoredFeatures


def stored_features(
    store: str | os.PathLike[str] | bool | None, fingerprint: Fingerprint, rows_hash: str
) -> StoredFeatures | None:
    """Opens the features of some rows by an embedder.

    Args:
        store (`str`, `PathLike` or `bool`, *optional*):
            The `store=` of the selector: a folder, the default cache (`None`, `True`) or none (`False`).
        fingerprint (`dict`):
            The embedder's fingerprint, from the record of a selection. The cache knows embedders that are not of this
            package also by the code of their class, which no record has: their features are not found there.
        rows_hash (`str`):
            The hash of the rows, from the same record.

    Returns:
        `StoredFeatures`: (N, d); `None` if they are not there.

    Raises:
        `ValueError`: If the folder `store` holds them incompletely. Such an entry of the cache counts as missing.
    """
    if store is False:
        return None
    if store is not None and store is not True:
        directory = feature_directory(expand(store), fingerprint, rows_hash)
        return FeatureStore.open(directory).features() if directory.exists() else None
    cache = FeatureCache()
    directory = feature_directory(cache.folder, fingerprint, rows_hash)
    if not is_finished(directory):
        return None
    cache.note_use(directory)
    return FeatureStore.open(directory).features()
