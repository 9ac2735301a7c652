"""Computes features of text: embedders, the store for features on disk, and `embed`, which uses both."""

from itl_hf.embedding.embed import embed
from itl_hf.embedding.embedders.base import Embedded, Embedder
from itl_hf.embedding.embedders.batching import token_batches
from itl_hf.embedding.embedders.hidden_states import HiddenStates
from itl_hf.embedding.row_keys import RowKeys, row_keys, rows_fingerprint
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.embedding.store.stored_features import StoredFeatures

__all__ = [
    "Embedded",
    "Embedder",
    "FeatureStore",
    "HiddenStates",
    "RowKeys",
    "StoredFeatures",
    "embed",
    "feature_directory",
    "row_keys",
    "rows_fingerprint",
    "token_batches",
]
