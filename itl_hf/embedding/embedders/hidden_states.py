"""The model's own hidden states as features: no training, no second model, one forward pass to the requested layer.

This is cheap (about a third of a training step at the default layer) and separates kinds of text well. It does not read
the completion unless `span` says so, and it is not the empirical NTK. Features of a row do not depend on its batch, on
the tokenizer's padding side, on `batch_tokens`, `packing` or `compile` (up to float rounding): rows are always padded
on the right, and padding is masked in the attention and in the pooling. Where a model ignores the mask in part, which
the first use checks, batches hold rows of equal length (`itl_hf.embedding.embedders.batch_effects`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from itl_hf.embedding.embedders.backbone import Backbone
from itl_hf.embedding.embedders.base import Embedded
from itl_hf.embedding.embedders.batching import TokenBatches
from itl_hf.embedding.embedders.language_model import LanguageModelEmbedder
from itl_hf.embedding.embedders.model_loading import load_model
from itl_hf.embedding.embedders.option_checks import check_layers, check_loading
from itl_hf.embedding.embedders.pooling import (
    Part,
    Pooling,
    parts_of,
    pool,
    resolve_layers,
    resolve_poolings,
    span_positions,
)
from itl_hf.text import Span, Tokens, checked_span

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from itl_hf.embedding.embedders.base import Fingerprint
    from itl_hf.embedding.embedders.quantization import Quantization


class HiddenStates(LanguageModelEmbedder):
    """Features from a hidden layer of a language model.

    Several layers and poolings come from one forward pass and are concatenated, unscaled: layer by layer in the order
    given, and within a layer pooling by pooling; `parts` says which columns are which. Selection's default preparation
    gives every column the same variance.

    The defaults were chosen by measurement (`recipes/benchmarks/results/layers.md`): on prompts of tasks that are easy
    to tell apart nothing is better; where a pool is of one kind of text, `layer=-1` is worth a try. A pool embedded
    with `span="whole"` needs targets with completions.

    Args:
        model (`str`, `Path` or `PreTrainedModel`):
            A Hub id, a folder, or a model (with or without a PEFT adapter). A model object is used as it is, with its
            active adapters; its LM head never runs. Of an encoder-decoder model the encoder is used: it reads the
            prompt, and with another `span` also the completion after it (which in training the decoder reads).
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Defaults to the one saved with the model.
        layer (`int`, `float` or a list of them, *optional*, defaults to 0.75):
            Index into transformers' `hidden_states` (0 is the embeddings, negative counts from the end), or, as a float
            in (0, 1], the share of the depth, rounded down. No layer after the last of them runs.
        pooling (`"mean"`, `"last"`, `"weighted_mean"` or a list of them, *optional*, defaults to `"mean"`):
            How the T positions of the span become one row; `"weighted_mean"` gives them the weights 1, 2, ..., T.
        span (`"prompt"`, `"completion"` or `"whole"`, *optional*, defaults to `"prompt"`):
            Which part of a row is pooled. With `"prompt"` the model does not read the completion at all.
        skip_tokens (`int`, *optional*, defaults to 0):
            Number of tokens at the start of the text that are not pooled. 1 leaves out the first token, which attention
            uses as a sink and whose norm may be a hundred times that of the others; a chat template may begin with more
            tokens that are the same in every row. A span with no other tokens keeps its last one.
        max_length (`int`, *optional*):
            Tokens beyond are cut from the end. Defaults to the model's context, at most 2048.
        batch_tokens (`int`, *optional*, defaults to 8192):
            Most tokens in a batch, padding included. Lower it when memory runs out; the features stay the same.
        dtype (`str`, *optional*, defaults to `"float32"`):
            `"float32"`, `"bfloat16"` or `"float16"`, for a model loaded here. Pooling is always in float32.
        device (`str` or `torch.device`, *optional*):
            Defaults to this process's GPU, else the CPU; for a model object, to where it is.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code from the model's repository may run.
        quantization (`"4bit"` or `"8bit"`, *optional*):
            Loads the model's weights in 4 bits (NF4, computing in `dtype`) or in 8 bits (LLM.int8, computing in
            float16); needs the package bitsandbytes.
        device_map (`str`, *optional*):
            How accelerate spreads a model loaded here over all GPUs of the machine, where it is too large for one:
            `"auto"`, `"balanced"`, `"balanced_low_0"` or `"sequential"`; in place of `device`.
        packing (`bool`, *optional*, defaults to `False`):
            Whether to run batches without padding. Works with flash attention, where it pays, and for causal decoders
            with other attention, where it does not; see `itl_hf.embedding.embedders.packing`.
        compile (`bool`, *optional*, defaults to `False`):
            Whether to run the blocks through `torch.compile`; the first batches then take a minute, which pays over
            many rows.

    Raises:
        `ValueError`: If an argument is out of range, or `max_length` is beyond the model's context; at the first batch
            also if `packing` would mix rows.
        `TypeError`: If `model` or `tokenizer` is of another kind.
        `ImportError`: If `quantization` is set and bitsandbytes is not installed.

    Example:
        >>> embedder = HiddenStates(model)  # such as "HuggingFaceTB/SmolLM2-135M-Instruct"
        >>> features = embedder.embed([{"prompt": "What is 2 + 2?"}])
        >>> features.shape == (1, embedder.dimension)
        True
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel | nn.Module,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        layer: int | float | Sequence[int | float] = 0.75,
        pooling: Pooling | Sequence[Pooling] = "mean",
        span: Span = "prompt",
        skip_tokens: int = 0,
        max_length: int | None = None,
        batch_tokens: int = 8192,
        dtype: str = "float32",
        device: str | torch.device | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
        quantization: Quantization | None = None,
        device_map: str | None = None,
        packing: bool = False,
        compile: bool = False,
    ) -> None:
        self.poolings = resolve_poolings(pooling)
        if isinstance(skip_tokens, bool) or not isinstance(skip_tokens, int) or skip_tokens < 0:
            raise ValueError(f"skip_tokens must be a number of tokens, 0 or more, got {skip_tokens!r}.")
        self.skip_tokens = skip_tokens
        batches = TokenBatches(batch_tokens)
        check_layers(layer)
        checked_span(span)
        check_loading(dtype=dtype, device=device, max_length=max_length)
        hub_options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        placement: dict[str, Any] = {"device": device, "device_map": device_map, "quantization": quantization}
        whole_model = load_model(model, dtype=dtype, **placement, **hub_options)
        self.backbone = Backbone(whole_model, packing=packing, compile=compile)
        self.layers = resolve_layers(layer, self.backbone.num_layers)
        super().__init__(
            self.backbone.model, tokenizer=tokenizer, span=span, max_length=max_length, batches=batches, **hub_options
        )

    @functools.cached_property
    def parts(self) -> tuple[Part, ...]:
        """Which columns of a feature row hold which layer under which pooling."""
        return parts_of(self.layers, self.poolings, [self.backbone.width(layer) for layer in self.layers])

    @functools.cached_property
    def dimension(self) -> int:
        """Number of columns of a feature row: the model's width, times the layers, times the poolings."""
        return self.parts[-1].stop

    def fingerprint(self) -> Fingerprint:
        """Returns everything that determines the features of a row.

        It is computed at each call, since the model may be in training; weights that did not change are not read again.
        """
        return {
            "embedder": "hidden_states",
            "weights": self.backbone.weights_hash(max(self.layers)),
            "layer": self.layers[0] if len(self.layers) == 1 else ", ".join(map(str, self.layers)),
            "pooling": ", ".join(self.poolings),
            "skip_tokens": self.skip_tokens,
            **super().fingerprint(),
        }

    def embed_prepared(self, prepared_rows: list[Tokens], *, on_rows: Callable[[int], None] | None = None) -> Embedded:
        """Computes the features from what `prepare` returned, with the column `tokens`: what the model read of a row.

        Args:
            prepared_rows (`list[Tokens]`):
                The result of `prepare`.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time k more rows are embedded.
        """
        if not self.backbone.packing:  # packing has a check of its own
            self.choose_grouping(self._embed_batch, prepared_rows, self.span)
        features = torch.empty(len(prepared_rows), self.dimension, dtype=torch.float32)  # (B, d)
        lengths = [len(row.input_ids) for row in prepared_rows]
        embed_batch = lambda batch: self._embed_batch([prepared_rows[i] for i in batch])
        for batch, batch_features in self._batches.run(lengths, embed_batch, on_rows):
            features[batch] = batch_features.cpu()
        return Embedded(features, {"tokens": torch.tensor(lengths, dtype=torch.long)})

    def _embed_batch(self, rows: Sequence[Tokens]) -> Tensor:
        input_ids, attention = self.pad([row.input_ids for row in rows])
        span = span_positions(rows, self.span, input_ids.shape[1], self.skip_tokens)  # (B, T)
        # Each layer is pooled as soon as it is computed: several layers are never in memory together.
        layers = self.backbone.hidden(
            self.layers, input_ids, attention, lambda hidden: pool(hidden, span.to(hidden.device), self.poolings)
        )
        return torch.cat([layer.to(layers[0].device) for layer in layers], 1)  # (B, dimension)
