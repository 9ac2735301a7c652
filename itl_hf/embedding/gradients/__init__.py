"""Per-example gradients as features: the empirical neural tangent kernel."""

from itl_hf.embedding.gradients.adam import AdamPreconditioner
from itl_hf.embedding.gradients.embedder import Gradients

__all__ = ["AdamPreconditioner", "Gradients"]
