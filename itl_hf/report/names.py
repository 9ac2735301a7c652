"""Names of methods, embedders and models as people write them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from itl_hf.selection.result.record import SelectionRecord

METHODS = {
    "itl": "ITL",
    "vtl": "VTL",
    "ctl": "CTL",
    "mean_marginal_itl": "mean-marginal ITL",
    "undirected": "uncertainty sampling",
    "cosine": "cosine similarity",
    "max_similarity": "maximum similarity",
    "round_robin": "round-robin (RDS+)",
    "balanced_round_robin": "balanced round-robin",
    "random": "random draw",
    "length_matched_random": "random draw of matched lengths",
    "information_density": "information density",
    "badge": "BADGE",
    "k_center": "k-center",
    "k_means": "k-means",
    "less": "LESS",
    "less_round_robin": "LESS, round-robin",
    "gist": "GIST",
    "unbalanced_transport": "unbalanced optimal transport",
    "loss_drop": "normalised loss drop",
    "dsir": "DSIR",
    "bm25": "BM25",
}

EMBEDDERS = {
    "hidden_states": "hidden states",
    "sentence_encoder": "sentence embeddings",
    "gradients": "gradients",
    "endpoint": "embeddings of a server",
    "vectors": "vectors that came with the rows",
    "combined": "combined features",
}


def embedder_name(record: SelectionRecord) -> str:
    """What the features are; `features` if the record does not say."""
    name = str((record.embedder or {}).get("embedder", "features"))
    return EMBEDDERS.get(name, name)


def method_name(record: SelectionRecord) -> str:
    """The usual name of the acquisition."""
    return METHODS.get(record.acquisition_name, record.acquisition_name)


def model_name(record: SelectionRecord) -> str:
    """Names of the models that computed the features, without their folders; empty if there was no model."""
    facts = record.embedder or {}
    names = [str(value) for key, value in facts.items() if key.rpartition(".")[2] == "model" and value]
    return " and ".join(dict.fromkeys(Path(name).name for name in names))
