"""Features of single rows, computed for the rows that are needed and kept on disk.

A pass over the whole pool with gradients would take an hour; the picks of all trained cells are a few thousand rows.
Rows are numbered as in `BenchmarkRows.everything`, with the held-out rows after them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor
from tqdm.auto import tqdm

from itl_hf import Gradients, HiddenStates
from itl_hf.embedding import token_batches
from itl_hf.embedding.embedders.pooling import pool, span_positions
from itl_hf.text import Span
from recipes.benchmarks.fine_tuning.rows import BenchmarkRows
from recipes.benchmarks.fine_tuning.tuner import Row

#: Layers of SmolLM2-135M, which has 30, whose states are pooled over each span.
LAYERS = (8, 15, 22, 26, 30)
CHUNK = 32
BATCH_TOKENS = 2048
Embed = Callable[[list[Row]], np.ndarray]


def numbered_rows(rows: BenchmarkRows) -> Dataset:
    """Returns all rows in the order of their numbers: `everything`, then the held-out rows."""
    return concatenate_datasets([rows.everything, rows.held_out])


class RowFeatures:
    """Features of some rows with one embedder, in a folder of small files.

    Args:
        directory (`Path`):
            The folder. Several processes may write into it.
        rows (`Dataset`):
            All rows; a row's number is its place.
    """

    def __init__(self, directory: Path, rows: Dataset) -> None:
        self.directory, self.rows = directory, rows
        directory.mkdir(parents=True, exist_ok=True)

    def numbers(self) -> set[int]:
        """Returns the numbers of the rows whose features are on disk."""
        return {int(number) for path in self._paths() for number in np.load(path)["numbers"]}

    def add(self, numbers: Sequence[int], embed: Embed, dtype: str = "float32") -> None:
        """Computes the features of those rows that are not on disk, in the order of `numbers`.

        Args:
            numbers (`Sequence[int]`):
                Rows, the most urgent first. An interrupted run keeps every finished file.
            embed (`Callable`):
                Returns features (k, d) of k rows.
            dtype (`str`, *optional*, defaults to `"float32"`):
                Type on disk.
        """
        stored = self.numbers()
        missing = [number for number in dict.fromkeys(numbers) if number not in stored]
        for start in tqdm(range(0, len(missing), CHUNK), desc=self.directory.name, unit="chunk"):
            part = missing[start : start + CHUNK]
            values = embed(self.rows.select(part).to_list())
            draft = self.directory / f"draft-{os.getpid()}.npz"
            np.savez(draft, numbers=np.array(part), features=values.astype(dtype))
            os.replace(draft, self.directory / f"rows-{part[0]:06d}-{len(part)}.npz")

    def load(self) -> tuple[np.ndarray, np.ndarray]:
        """Returns the numbers of the rows on disk in ascending order, (R,), and their features, (R, ...)."""
        files = [np.load(path) for path in self._paths()]
        if not files:
            return np.zeros(0, dtype=np.int64), np.zeros((0, 0), dtype=np.float32)
        numbers = np.concatenate([file["numbers"] for file in files])
        ascending, first = np.unique(numbers, return_index=True)
        return ascending, np.concatenate([file["features"] for file in files])[first]

    def _paths(self) -> list[Path]:
        return sorted(self.directory.glob("rows-*.npz"))


class LayerStates:
    """Mean hidden states of several layers over prompt, completion and both, from one forward pass.

    A token's state depends only on the tokens before it, so a pass over prompt and completion also has the prompt's.

    Args:
        model (`str`):
            Folder or name of a decoder.
        layers (`Sequence[int]`, *optional*, defaults to `LAYERS`):
            Layers to keep.
    """

    spans: tuple[Span, ...] = get_args(Span)

    def __init__(self, model: str, layers: Sequence[int] = LAYERS) -> None:
        self.model, self.layers = model, tuple(layers)

    @cached_property
    def embedder(self) -> HiddenStates:
        """The embedder whose backbone runs."""
        return HiddenStates(self.model, span="whole")

    def __call__(self, rows: list[Row]) -> np.ndarray:
        """Returns states (rows, spans, layers, d), float32."""
        tokens = self.embedder.prepare(rows)
        features: list[np.ndarray | None] = [None] * len(rows)
        for batch in token_batches([len(row.input_ids) for row in tokens], BATCH_TOKENS):
            mine = [tokens[place] for place in batch]
            ids, mask = self.embedder.pad([row.input_ids for row in mine])
            places = [span_positions(mine, span, ids.shape[1], 0) for span in self.spans]

            def over_spans(hidden: Tensor, places: list[Tensor] = places) -> Tensor:
                return torch.stack([pool(hidden, place, ["mean"]) for place in places], 1)

            states = torch.stack(self.embedder.backbone.hidden(self.layers, ids, mask, over_spans), 2)
            for place, values in zip(batch, states.numpy(), strict=True):
                features[place] = values  # (spans, layers, d)
        return np.stack([values for values in features if values is not None])


class GradientFeatures:
    """Sketched gradients with the loss on the completion or on the labels that the model predicts.

    Args:
        model (`str`):
            Folder or name of a causal model.
        labels (`str`):
            `"completion"` or `"predicted"`.
    """

    def __init__(self, model: str, labels: str) -> None:
        self.model, self.labels = model, labels

    @cached_property
    def embedder(self) -> Gradients:
        """The embedder."""
        return Gradients(self.model, labels=self.labels)  # type: ignore[arg-type]  # checked there

    def __call__(self, rows: list[Row]) -> np.ndarray:
        """Returns gradients (rows, 8192) of unit length, float32."""
        embedded = self.embedder.embed(rows)
        values: np.ndarray = embedded.features.numpy()
        return values
