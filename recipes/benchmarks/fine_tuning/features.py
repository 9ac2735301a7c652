"""Features of the benchmark's rows, computed once and kept."""

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
    """`"hidden-states"`, `"hidden-states-last"` or `"gradients"` of the model that is trained; `"minilm"` from its
    package, or any sentence-transformers model.
    """
    if name.startswith("hidden-states"):
        return HiddenStates(model, pooling="last" if name.endswith("-last") else "mean")
    if name == "gradients":
        # Targets have no completions: both sides on the model's own predictions, as `Selector` does it.
        return Gradients(model, labels="predicted")
    return SentenceEncoder(minilm() if name == "minilm" else name)


def features(
    rows: BenchmarkRows, embedder: Embedder, directory: Path, variants: Sequence[str]
) -> Mapping[str, np.ndarray]:
    """`"rows"`: (N, d) features of `rows.everything`; `"bank"`: (T, d) those of the target prompts.

    Args:
        rows (`BenchmarkRows`):
            The rows.
        embedder (`Embedder`):
            Any.
        directory (`Path`):
            One for each embedder; what is there already is not computed again.
        variants (`Sequence[str]`):
            Which pools are asked for; rows that none of them has are left out from the end.
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
