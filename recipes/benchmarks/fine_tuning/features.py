"""Features of all rows of the benchmark, computed once and kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.embedding import embed
from recipes.benchmarks.fine_tuning.rows import BenchmarkRows

if TYPE_CHECKING:
    from itl_hf.embedding.embedder import Embedder

PARTS = ("bank", "pool", "copies", "garbage")


def features(rows: BenchmarkRows, embedder: Embedder, directory: Path) -> Mapping[str, np.ndarray]:
    """`"rows"`: (N, d) features of `rows.everything`; `"bank"`: (T, d) those of the target prompts.

    Args:
        rows (`BenchmarkRows`): the rows.
        embedder (`Embedder`): any.
        directory (`Path`): one for each embedder; what is there already is not computed again.
    """
    found = {
        part: np.asarray(embed(getattr(rows, part), embedder, directory / part, shard_rows=256, description=part))
        for part in PARTS
    }
    return {"bank": found["bank"], "rows": np.concatenate([found[part] for part in PARTS[1:]])}
