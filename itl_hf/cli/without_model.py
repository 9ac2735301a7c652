"""Selections that read no features: no model is loaded for them, unless one was named for the report and the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from itl_hf.cli.output import say_note

if TYPE_CHECKING:
    from itl_hf.cli.arguments import EmbedderArguments, PickingArguments
    from itl_hf.embedding.embedders.base import Embedder

#: Acquisitions whose picks depend on no features.
READ_NO_FEATURES = ("random", "bm25")


def embedder_without_model(
    picking: PickingArguments, embedding: EmbedderArguments, names_model: bool
) -> Embedder | None:
    """Returns an embedder that loads nothing, if the picks do not depend on features; `None` otherwise.

    Args:
        picking (`PickingArguments`):
            How rows are picked.
        embedding (`EmbedderArguments`):
            What is embedded.
        names_model (`bool`):
            Whether a model for the features was named.
    """
    counts_tokens = picking.token_budget is not None and picking.costs is None
    names_features = bool(embedding.settings()) or embedding.embedder != "hidden_states"
    names_features = names_features or picking.replay_method == "k_means"
    if picking.acquisition not in READ_NO_FEATURES or names_model or names_features or counts_tokens:
        return None
    from itl_hf.embedding.embedders.words import WordCounts

    say_note(
        f"acquisition {picking.acquisition} reads no features, so no model is loaded; gains, variances and the map are "
        "those of counts of words (name a model, for features of it)"
    )
    return WordCounts()
