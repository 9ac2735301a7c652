"""The model's own hidden states as features: no training, no second model, one forward pass to the layer asked for.

Cheap (about a third of a training step at the default layer) and good at telling kinds of text apart; it does not see
the completion unless `span` says so, and it is not the empirical NTK. Rows do not depend on their batch, on the
tokenizer's padding side or on `batch_tokens` (up to float rounding): padding is ours, on the right, masked in the
attention and in the pooling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch

from itl_hf.embedding.backbone import Backbone
from itl_hf.embedding.batching import TokenBatches
from itl_hf.embedding.language_model import LanguageModel, load_model
from itl_hf.text import Row, Span, Tokens

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from itl_hf.embedding.embedder import Fingerprint

Pooling = Literal["mean", "last", "weighted_mean"]


class HiddenStates:
    """Features from a hidden layer of a language model.

    Args:
        model (`str`, `Path` or `PreTrainedModel`):
            A Hub id, a folder, or a model (with a PEFT adapter or without). A model object is used as it is, adapters
            live; its LM head never runs.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Defaults to the one saved with the model.
        layer (`int` or `float`, *optional*, defaults to 0.75):
            Index into transformers' `hidden_states` (0 the embeddings, negative from the end), or, as a float in (0,
            1], the share of the depth, rounded down.
        pooling (`"mean"`, `"last"` or `"weighted_mean"`, *optional*, defaults to `"mean"`):
            How the T positions of the span become one row; `"weighted_mean"` weighs them 1, 2, ..., T.
        span (`"prompt"`, `"completion"` or `"whole"`, *optional*, defaults to `"prompt"`):
            Which part of a row is pooled. With `"prompt"` the model does not read the completion.
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

    Raises:
        ValueError: an argument out of range, or a `max_length` beyond the model's context.
        TypeError: `model` or `tokenizer` is something else.

    Example:
        >>> embedder = HiddenStates("HuggingFaceTB/SmolLM2-135M-Instruct")
        >>> embedder.embed([{"prompt": "What is 2 + 2?"}]).shape
        torch.Size([1, 576])
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel | nn.Module,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        layer: int | float = 0.75,
        pooling: Pooling = "mean",
        span: Span = "prompt",
        max_length: int | None = None,
        batch_tokens: int = 8192,
        dtype: str = "float32",
        device: str | torch.device | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        if pooling not in get_args(Pooling):
            raise ValueError(f"pooling must be one of {get_args(Pooling)}, got {pooling!r}.")
        hub: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
        if isinstance(model, str | Path):
            loaded: nn.Module = load_model(model, dtype=dtype, device=device, **hub)
        else:
            loaded = model if device is None else model.to(device)
        self.backbone = Backbone(loaded)
        self.language_model = LanguageModel(
            self.backbone.model, tokenizer=tokenizer, span=span, max_length=max_length, **hub
        )
        self.layer = resolve_layer(layer, self.backbone.num_layers)
        self.pooling: Pooling = pooling
        self._batches = TokenBatches(batch_tokens)

    @property
    def dimension(self) -> int:
        """Width of the hidden layer."""
        return self.backbone.dimension

    def fingerprint(self) -> Fingerprint:
        """Everything that determines the features of a row.

        Computed anew at each call, since a live model may be in training.
        """
        return {
            "embedder": "hidden_states",
            "weights": self.backbone.identity(self.layer),
            "layer": self.layer,
            "pooling": self.pooling,
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
            `Tensor`: shape (len(rows), d), float32, on the CPU.

        Raises:
            ValueError: a row without text, or without the span asked for.
        """
        features = self.embed_prepared(self.prepare(rows, first_row), on_rows=on_rows)
        if on_rows is None:
            self.report_truncation()
        return features

    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> list[Tokens]:
        """Token ids: what can be done for the next rows while the model is busy with these."""
        return self.language_model.tokens(rows, first_row)

    def embed_prepared(self, prepared: list[Tokens], *, on_rows: Callable[[int], None] | None = None) -> Tensor:
        """As `embed`, from what `prepare` returned."""
        features = torch.empty(len(prepared), self.dimension)  # (B, d)
        lengths = [len(row.input_ids) for row in prepared]
        for batch, pooled in self._batches.run(lengths, lambda batch: self._pooled([prepared[i] for i in batch])):
            features[batch] = pooled.cpu()
            if on_rows is not None:
                on_rows(len(batch))
        return features

    def report_truncation(self) -> None:
        """Warn, once and with their number, about the rows cut since the last report."""
        self.language_model.report_truncation()

    def _pooled(self, rows: Sequence[Tokens]) -> Tensor:
        input_ids, attention = self.language_model.pad(rows)
        spans = torch.zeros_like(attention, dtype=torch.bool)  # (B, T)
        for i, row in enumerate(rows):
            spans[i, slice(*row.span(self.language_model.span))] = True
        hidden = self.backbone.hidden(self.layer, input_ids, attention)  # (B, T, d)
        return pool(hidden, spans.to(hidden.device), self.pooling)


def pool(hidden: Tensor, span: Tensor, pooling: Pooling) -> Tensor:
    """Pool the positions of a span into one row, in float32.

    Args:
        hidden (`Tensor`):
            Shape (B, T, d), any float type. What stands outside the span does not matter, NaN included.
        span (`Tensor`):
            Shape (B, T), bool, at least one position per row.
        pooling (`"mean"`, `"last"` or `"weighted_mean"`):
            See `HiddenStates`.

    Returns:
        `Tensor`: shape (B, d), float32.

    Example:
        >>> pool(torch.tensor([[[1.0], [4.0]]]), torch.tensor([[True, True]]), "weighted_mean")
        tensor([[3.]])
    """
    if pooling == "last":
        positions = torch.arange(span.shape[1], device=span.device)  # (T,)
        last = torch.where(span, positions, -1).amax(1)  # (B,)
        return hidden[torch.arange(len(hidden), device=span.device), last].float()
    weights = span.float() if pooling == "mean" else span.cumsum(1).float() * span  # (B, T)
    weights = weights / weights.sum(1, keepdim=True)
    inside = torch.where(span[..., None], hidden.float(), 0.0)  # (B, T, d)
    return torch.einsum("bt,btd->bd", weights, inside)


def resolve_layer(layer: int | float, num_layers: int) -> int:
    """The index from 0 to `num_layers` that `layer` means.

    A float is a share of the depth, a negative int counts from the end.

    Example:
        >>> resolve_layer(0.75, 30), resolve_layer(-1, 30)
        (22, 30)
    """
    if isinstance(layer, float):
        if not 0 < layer <= 1:
            raise ValueError(
                f"layer as a float is a share of the depth in (0, 1], got {layer}. Use an int for an index."
            )
        return math.floor(layer * num_layers + 1e-9)
    if isinstance(layer, bool) or not isinstance(layer, int):
        raise TypeError(f"layer must be an int or a float, got {type(layer).__name__}.")
    if not -num_layers - 1 <= layer <= num_layers:
        raise ValueError(
            f"layer {layer} is out of range: the model has hidden states 0 to {num_layers} (or -1 to "
            f"{-num_layers - 1})."
        )
    return layer % (num_layers + 1)
