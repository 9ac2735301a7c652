"""Per-example gradients as features: the empirical neural tangent kernel."""

from itl_hf.embedding.embedders.gradients.adam import AdamPreconditioner
from itl_hf.embedding.embedders.gradients.embedder import Gradients

__all__ = ["AdamPreconditioner", "Gradients"]
