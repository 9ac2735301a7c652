"""The model's own hidden states as features: no training, no second model, one forward pass to the layer asked for.

Cheap (about a third of a training step at the default layer) and good at telling kinds of text apart; it does not see
the completion unless `span` says so, and it is not the empirical NTK. Rows do not depend on their batch, on the
tokenizer's padding side, on `batch_tokens`, `packing` or `compile` (up to float rounding): padding is ours, on the
right, masked in the attention and in the pooling.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import transformers

from itl_hf.embedding.embedders.backbone import Backbone
from itl_hf.embedding.embedders.base import Embedded, Embedder
from itl_hf.embedding.embedders.batching import TokenBatches
from itl_hf.embedding.embedders.language_model import LanguageModel, default_device, load_model
from itl_hf.embedding.embedders.pooling import (
    Part,
    Pooling,
    parts_of,
    pool,
    resolve_layers,
    resolve_poolings,
    span_positions,
)
from itl_hf.text import Row, Span, Tokens

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from itl_hf.embedding.embedders.base import Fingerprint


class HiddenStates(Embedder):
    """Features from a hidden layer of a language model.

    Several layers and poolings come from one forward pass and stand side by side in a row, as the model has them, layer
    by layer in the order given and within a layer pooling by pooling; `parts` says where. They are not scaled to each
    other: selection's default preparation gives every column the same variance.

    The defaults were chosen by measurement (`recipes/benchmarks/results/layers.md`): on prompts of easily told tasks
    nothing is better; where a pool is of one kind of text, `layer=-1` is worth a try. A pool embedded with
    `span="whole"` needs targets with completions.

    Args:
        model (`str`, `Path` or `PreTrainedModel`):
            A Hub id, a folder, or a model (with a PEFT adapter or without). A model object is used as it is, adapters
            live; its LM head never runs. Of an encoder-decoder model the encoder is used, which reads the prompt, and
            with another `span` the completion behind it (in training the decoder reads that).
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Defaults to the one saved with the model.
        layer (`int`, `float` or a list of them, *optional*, defaults to 0.75):
            Index into transformers' `hidden_states` (0 the embeddings, negative from the end), or, as a float in (0,
            1], the share of the depth, rounded down. No layer beyond the last of them runs.
        pooling (`"mean"`, `"last"`, `"weighted_mean"` or a list of them, *optional*, defaults to `"mean"`):
            How the T positions of the span become one row; `"weighted_mean"` weighs them 1, 2, ..., T.
        span (`"prompt"`, `"completion"` or `"whole"`, *optional*, defaults to `"prompt"`):
            Which part of a row is pooled. With `"prompt"` the model does not read the completion.
        skip_tokens (`int`, *optional*, defaults to 0):
            So many tokens at the start of the text are not pooled. 1 leaves out the first, which attention uses as a
            sink and whose norm may be a hundred times that of the others; a chat template may begin with more that is
            the same in every row. A span with nothing else in it keeps its last token.
        max_length (`int`, *optional*):
            Tokens beyond are cut from the end. Defaults to the model's context, at most 2048.
        batch_tokens (`int`, *optional*, defaults to 8192):
            Most tokens in a batch, padding included. Lower it when memory runs out; the features stay the same.
        dtype (`str`, *optional*, defaults to `"float32"`):
            `"float32"`, `"bfloat16"` or `"float16"`, for a model loaded here. Pooling is always in float32.
        device (`str` or `torch.device`, *optional*):
            Defaults to the first GPU, else the CPU; for a model object, to where it is.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code from the model's repository may run.
        load_in_4bit (`bool`, *optional*, defaults to `False`):
            Load the model's weights in 4 bits (NF4, computing in `dtype`); needs the package bitsandbytes.
        packing (`bool`, *optional*, defaults to `False`):
            Run batches without padding. For models loaded with flash attention, and for causal decoders under other
            attention too, where it does not pay; see `itl_hf.embedding.embedders.packing`.
        compile (`bool`, *optional*, defaults to `False`):
            Run the blocks through `torch.compile`; takes a minute at the first batches and pays over many rows.

    Raises:
        `ValueError`: An argument out of range, or a `max_length` beyond the model's context; at the first batch also
            where `packing` would mix rows.
        `TypeError`: `model` or `tokenizer` is something else.
        `ImportError`: `load_in_4bit` without bitsandbytes.

    Example:
        >>> embedder = HiddenStates(model)  # such as "HuggingFaceTB/SmolLM2-135M-Instruct"
        >>> features = embedder.embed([{"prompt": "What is 2 + 2?"}])
        >>> features.shape == (1, embedder.dimension)
        True
    """

    prepares_ahead = True

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
        load_in_4bit: bool = False,
        packing: bool = False,
        compile: bool = False,
    ) -> None:
        self.poolings = resolve_poolings(pooling)
        if isinstance(skip_tokens, bool) or not isinstance(skip_tokens, int) or skip_tokens < 0:
            raise ValueError(f"skip_tokens must be a number of tokens, 0 or more, got {skip_tokens!r}.")
        self.skip_tokens = skip_tokens
        self._batches = TokenBatches(batch_tokens)
        hub: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        loaded = _loaded(model, dtype, device, load_in_4bit, hub)
        self.backbone = Backbone(loaded, packing=packing, compile=compile)
        self.layers = resolve_layers(layer, self.backbone.num_layers)
        self.language_model = LanguageModel(
            self.backbone.model, tokenizer=tokenizer, span=span, max_length=max_length, **hub
        )

    @property
    def parts(self) -> tuple[Part, ...]:
        """Which columns of a row hold which layer under which pooling."""
        return parts_of(self.layers, self.poolings, self.backbone.dimension)

    @property
    def dimension(self) -> int:
        """Width of a row: that of the model, times the layers, times the poolings."""
        return len(self.parts) * self.backbone.dimension

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:  # type: ignore[override]
        """What rows are read with."""
        return self.language_model.tokenizer

    @property
    def batch_tokens(self) -> int:  # type: ignore[override]
        """Most tokens in a batch; less than what was given where memory ran out."""
        return self._batches.batch_tokens

    def token_counts(self, rows: Sequence[Row]) -> list[int]:
        """Tokens that the model reads of each row."""
        return self.language_model.token_counts(rows)

    def fingerprint(self) -> Fingerprint:
        """Everything that determines the features of a row.

        Looked at anew at each call, since a live model may be in training; weights that did not change are not read
        again.
        """
        return {
            "embedder": "hidden_states",
            "weights": self.backbone.identity(max(self.layers)),
            "layer": self.layers[0] if len(self.layers) == 1 else ", ".join(map(str, self.layers)),
            "pooling": ", ".join(self.poolings),
            "skip_tokens": self.skip_tokens,
            **self.language_model.fingerprint(),
        }

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raise for rows that `embed` would refuse, without running the model."""
        self.language_model.check(rows, first_row)

    def embed(self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None) -> Tensor:
        """Features of `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time k more rows are done. Whoever passes it also calls `report_truncation` at the
                end; without it a truncation is reported at once.

        Returns:
            `Tensor`: shape (len(rows), dimension), float32, on the CPU.

        Raises:
            `ValueError`: A row without text, or without the span asked for.
        """
        features = self.embed_prepared(self.prepare(rows, first_row), on_rows=on_rows).features
        if on_rows is None:
            self.report_truncation()
        return features

    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> list[Tokens]:
        """Token ids: what can be done for the next rows while the model is busy with these."""
        return self.language_model.tokens(rows, first_row)

    def embed_prepared(self, prepared_rows: list[Tokens], *, on_rows: Callable[[int], None] | None = None) -> Embedded:
        """As `embed`, from what `prepare` returned, with `tokens` (what the model read of each row) as a column."""
        features = torch.empty(len(prepared_rows), self.dimension)  # (B, d)
        lengths = [len(row.input_ids) for row in prepared_rows]
        for batch, pooled in self._batches.run(lengths, lambda batch: self._pooled([prepared_rows[i] for i in batch])):
            features[batch] = pooled.cpu()
            if on_rows is not None:
                on_rows(len(batch))
        return Embedded(features, {"tokens": torch.tensor(lengths, dtype=torch.long)})

    def report_truncation(self) -> None:
        """Warn, once and with their number, about the rows cut since the last report."""
        self.language_model.report_truncation()

    def _pooled(self, rows: Sequence[Tokens]) -> Tensor:
        input_ids, attention = self.language_model.pad(rows)
        span = span_positions(rows, self.language_model.span, input_ids.shape[1], self.skip_tokens)  # (B, T)
        # Pooled as each layer comes by: several layers never stand in memory together.
        pooled = self.backbone.hidden(
            self.layers, input_ids, attention, lambda hidden: pool(hidden, span.to(hidden.device), self.poolings)
        )
        return torch.cat([part.to(pooled[0].device) for part in pooled], 1)  # (B, dimension)


def _loaded(
    model: str | Path | nn.Module,
    dtype: str,
    device: str | torch.device | None,
    load_in_4bit: bool,
    hub: dict[str, Any],
) -> nn.Module:
    if not isinstance(model, str | Path):
        if load_in_4bit:
            raise ValueError("load_in_4bit is for a model loaded here; this one was given as an object.")
        return model if device is None else model.to(device)
    options = _four_bits(dtype, device) if load_in_4bit else {}
    return load_model(model, dtype=dtype, device=device, **options, **hub)


def _four_bits(dtype: str, device: str | torch.device | None) -> dict[str, Any]:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise ImportError("load_in_4bit=True needs bitsandbytes: pip install bitsandbytes, or leave it out.")
    kind: Any = transformers.BitsAndBytesConfig
    config = kind(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)
    # bitsandbytes quantises on the way to the device, hence the map.
    return {"quantization_config": config, "device_map": {"": torch.device(device or default_device())}}
