"""Computes the features of the pools' rows once for each kind of features and stores them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset

from itl_hf import Gradients
from itl_hf.embedding import embed
from recipes.benchmarks.fine_tuning import features as fine_tuning_features
from recipes.benchmarks.ten_pools.bigbench_pools import BIGBENCH_FOLDER
from recipes.benchmarks.ten_pools.e5 import MultilingualE5
from recipes.benchmarks.ten_pools.pool import Part, Pool
from recipes.benchmarks.ten_pools.tfidf import TFIDF_DIMENSIONS, tfidf

if TYPE_CHECKING:
    from itl_hf.embedding import Embedder

#: Features that read completions: where a pool has wrong completions, they are other features.
LABELLED = "gradients-labelled"


def embedder(name: str, model: str) -> Embedder:
    """Returns the embedder of this name.

    Names are `"e5"` (multilingual-e5-small), `"gradients-labelled"` (gradients of the rows' own completions, on both
    sides), and those of `recipes.benchmarks.fine_tuning.features.embedder`, such as `"hidden-states"` and `"minilm"`.
    """
    if name == "e5":
        return MultilingualE5()
    if name == LABELLED:
        return Gradients(model, labels="completion")
    return fine_tuning_features.embedder(name, model)


class Features:
    """Features of one kind, for any pool.

    Args:
        name (`str`):
            A name that `embedder` knows, or `"tfidf"`.
        model (`str`):
            The model that is trained.
        directory (`Path`):
            Folder for the features of all kinds. Those that exist there are not computed again.
        bigbench_directory (`Path`):
            Folder of the features of the fine-tuning benchmark, whose BIG-bench rows are the same.
    """

    def __init__(self, name: str, model: str, directory: Path, bigbench_directory: Path) -> None:
        self.name, self.model = name, model
        self.directory, self.bigbench_directory = directory / name, bigbench_directory / name
        self._embedder: Embedder | None = None

    def of(self, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
        """Returns the features of the pool's rows, (N, d), and of its bank, (B, d)."""
        if self.name == "tfidf":
            return tfidf([prompt for prompt, _ in pool.texts], pool.bank.rows["prompt"], TFIDF_DIMENSIONS)
        if self.name == LABELLED and pool.completions:
            rows = [self._embed(Part(f"{pool.name}/labelled-pool", _labelled_rows(pool)))]
        else:
            rows = [self._embed(part) for part in pool.parts]
        return np.concatenate(rows), self._embed(pool.bank)

    def _embed(self, part: Part) -> np.ndarray:
        if self._embedder is None:
            self._embedder = embedder(self.name, self.model)
        description = f"{self.name}: {part.name}"
        path = self.directory / part.name
        if part.name.startswith(BIGBENCH_FOLDER):
            path = self.bigbench_directory / part.name.removeprefix(BIGBENCH_FOLDER)
        return np.asarray(embed(part.rows, self._embedder, path, shard_rows=256, description=description))


def _labelled_rows(pool: Pool) -> Dataset:
    return Dataset.from_list([pool.row(number) for number in range(len(pool.texts))])
