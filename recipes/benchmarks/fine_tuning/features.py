"""Computes the features of the benchmark's rows once and stores them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from itl_hf import Gradients, HiddenStates, SentenceEncoder
from itl_hf.embedding import embed
from recipes.benchmarks.fine_tuning.rows import BenchmarkRows
from recipes.benchmarks.fine_tuning.variants import REPEATING
from recipes.benchmarks.pools import minilm

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder


def embedder(name: str, model: str) -> Embedder:
    """Returns the embedder of this name.

    Names are `"hidden-states"`, `"hidden-states-last"`, `"gradients"` (on predicted labels) and `"gradients-labelled"`
    (on the completions of both sides) of the model that is trained, `"minilm"` for the packaged sentence encoder, or
    the name of any sentence-transformers model.
    """
    if name.startswith("hidden-states"):
        return HiddenStates(model, pooling="last" if name.endswith("-last") else "mean")
    if name == "gradients-labelled":
        return Gradients(model, labels="completion")
    if name == "gradients":
        # Targets have no completions, so both sides use the model's predictions as labels, as in `Selector`.
        return Gradients(model, labels="predicted")
    return SentenceEncoder(minilm() if name == "minilm" else name)


def features(
    rows: BenchmarkRows, embedder: Embedder, directory: Path, variants: Sequence[str]
) -> Mapping[str, np.ndarray]:
    """Returns features: `"rows"`, (N, d), of `rows.everything`, and `"bank"`, (T, d), of the target prompts.

    Args:
        rows (`BenchmarkRows`):
            The rows.
        embedder (`Embedder`):
            The embedder.
        directory (`Path`):
            Folder for this embedder's features. Features that exist there are not computed again.
        variants (`Sequence[str]`):
            Names of the pools. Copies and garbage are left out if no pool has them.
    """
    parts = ["bank", "pool"]
    if {*REPEATING, "noise"} & set(variants):
        parts.append("copies")
    if "noise" in variants:
        parts.append("garbage")
    arrays = {
        part: np.asarray(embed(getattr(rows, part), embedder, directory / part, shard_rows=256, description=part))
        for part in parts
    }
    return {"bank": arrays["bank"], "rows": np.concatenate([arrays[part] for part in parts[1:]])}
