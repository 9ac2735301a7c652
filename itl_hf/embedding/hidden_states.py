"""The model's own hidden states as features: no training, no second model, one forward pass to the layer asked for.

Cheap (about a third of a training step at the default layer) and good at telling kinds of text apart; it does not see
the completion unless `span` says so, and it is not the empirical NTK. Rows do not depend on their batch, on the
tokenizer's padding side or on `batch_tokens` (up to float rounding): padding is ours, on the right, masked in the
attention and in the pooling.
"""

from __future__ import annotations

import hashlib
import math
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast, get_args

import torch
import transformers

from itl_hf.embedding.backbone import Backbone, load_model
from itl_hf.embedding.batching import token_batches
from itl_hf.text import Row, RowTokenizer, Span, Tokens

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from itl_hf.embedding.embedder import Fingerprint

Pooling = Literal["mean", "last", "weighted_mean"]
_LONGEST_DEFAULT = 2048


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
        token_batches([], batch_tokens)  # raises early
        if isinstance(model, str | Path):
            hub = {"revision": revision, "trust_remote_code": trust_remote_code}
            loaded: nn.Module = load_model(str(model), dtype=_dtype(dtype), **hub)
            loaded = loaded.to(device or _default_device())
        else:
            loaded = model if device is None else model.to(device)
        self.backbone = Backbone(loaded)
        self.tokenizer = _checked_tokenizer(tokenizer, self.backbone, revision, trust_remote_code)
        self.layer = resolve_layer(layer, self.backbone.num_layers)
        self.pooling: Pooling = pooling
        self.span: Span = span
        self.max_length = _resolve_max_length(max_length, self.backbone.context)
        self.batch_tokens = batch_tokens
        self.revision = revision
        self._rows = RowTokenizer(self.tokenizer, max_length=self.max_length, span=span)
        self._truncated: list[int] = []

    @property
    def dimension(self) -> int:
        """Width of the hidden layer."""
        return self.backbone.dimension

    def fingerprint(self) -> Fingerprint:
        """Everything that determines the features of a row.

        Computed anew at each call, since a live model may be in training.
        """
        config = self.backbone.model.config
        return {
            "embedder": "hidden_states",
            "model": str(config._name_or_path or type(self.backbone.model).__name__),
            "revision": self.revision or getattr(config, "_commit_hash", None),
            "weights": self.backbone.identity(self.layer),
            "dtype": str(self.backbone.model.dtype).removeprefix("torch."),
            "layer": self.layer,
            "pooling": self.pooling,
            "span": self.span,
            "max_length": self.max_length,
            "tokenizer": _tokenizer_hash(self.tokenizer),
            "chat_template": _short_hash(str(self.tokenizer.chat_template)) if self.tokenizer.chat_template else None,
        }

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raise for rows that `embed` would refuse, without running the model.

        With `span="completion"` the rows are tokenized, since a prompt that fills `max_length` leaves no completion.
        """
        if self.span == "completion":
            self._rows(rows, first_row)
        else:
            self._rows.check(rows, first_row)

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
        tokens = self._rows(rows, first_row)
        self._truncated += [first_row + i for i, row in enumerate(tokens) if row.truncated]
        features = torch.empty(len(rows), self.dimension)  # (B, d)
        for batch in token_batches([len(row.input_ids) for row in tokens], self.batch_tokens):
            features[batch] = self._pooled([tokens[i] for i in batch]).cpu()
            if on_rows is not None:
                on_rows(len(batch))
        if on_rows is None:
            self.report_truncation()
        return features

    def report_truncation(self) -> None:
        """Warn, once and with their number, about the rows cut since the last report."""
        cut, self._truncated = self._truncated, []
        if cut:
            warnings.warn(
                f"{len(cut)} row(s) are longer than max_length={self.max_length} tokens; what is beyond was cut from "
                f"their end (the first is row {min(cut)}).",
                stacklevel=3,
            )

    def _pooled(self, rows: Sequence[Tokens]) -> Tensor:
        longest = max(len(row.input_ids) for row in rows)
        device = self.backbone.device
        input_ids = torch.full((len(rows), longest), self._pad_id())  # (B, T)
        attention = torch.zeros(len(rows), longest, dtype=torch.long)  # (B, T)
        spans = torch.zeros(len(rows), longest, dtype=torch.bool)  # (B, T)
        for i, row in enumerate(rows):
            input_ids[i, : len(row.input_ids)] = torch.tensor(row.input_ids)
            attention[i, : len(row.input_ids)] = 1
            spans[i, slice(*row.span(self.span))] = True
        hidden = self.backbone.hidden(self.layer, input_ids.to(device), attention.to(device))  # (B, T, d)
        return pool(hidden, spans.to(hidden.device), self.pooling)

    def _pad_id(self) -> int:
        # RoBERTa numbers its positions by comparing ids with the config's padding id, so that one comes first.
        candidates = (
            getattr(self.backbone.model.config, "pad_token_id", None),
            self.tokenizer.pad_token_id,
            self.tokenizer.eos_token_id,
        )
        return next((int(c) for c in candidates if isinstance(c, int) and c >= 0), 0)


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


def _resolve_max_length(max_length: int | None, context: int | None) -> int:
    if max_length is None:
        return min(_LONGEST_DEFAULT, context or _LONGEST_DEFAULT)
    if context is not None and max_length > context:
        raise ValueError(
            f"max_length={max_length} is more than the model's context of {context} tokens. Lower it, or leave it out."
        )
    return max_length


def _dtype(name: str) -> torch.dtype:
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ValueError(f"dtype must be one of {list(known)}, got {name!r}.")
    return known[name]


def _default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _checked_tokenizer(
    tokenizer: PreTrainedTokenizerBase | None, backbone: Backbone, revision: str | None, trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    name = backbone.model.config._name_or_path
    if tokenizer is None and not name:
        raise ValueError(
            "this model was not loaded from a folder or the Hub, so its tokenizer is unknown: pass tokenizer=."
        )
    if tokenizer is None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            name, revision=revision, trust_remote_code=trust_remote_code
        )
    if not isinstance(tokenizer, transformers.PreTrainedTokenizerBase):
        raise TypeError(f"tokenizer must be a tokenizer of transformers, got {type(tokenizer).__name__}.")
    known = cast("nn.Embedding", backbone.model.get_input_embeddings()).num_embeddings
    if len(tokenizer) > known:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens but the model embeds {known}: they do not belong together, "
            "or the model needs model.resize_token_embeddings(len(tokenizer))."
        )
    return tokenizer


def _tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return _short_hash(repr(sorted(tokenizer.get_vocab().items())))
    # Padding and truncation are the last call's, not the tokenizer's own.
    backend = type(backend).from_str(backend.to_str())
    backend.no_padding()
    backend.no_truncation()
    return _short_hash(backend.to_str())


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]
