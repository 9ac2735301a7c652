"""Text -> feature rows: embedders, the store that keeps their work, and the driver that joins them."""

from itl_hf.embedding.batching import token_batches
from itl_hf.embedding.embed import embed
from itl_hf.embedding.embedder import Embedder
from itl_hf.embedding.hidden_states import HiddenStates
from itl_hf.embedding.store import FeatureStore

__all__ = ["Embedder", "FeatureStore", "HiddenStates", "embed", "token_batches"]
