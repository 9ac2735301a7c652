"""A language model and its tokenizer, as every embedder reads rows with them.

What embedders share and what has nothing to do with features: loading, the tokenizer that belongs to the model, the
longest row, padding (ours, on the right), truncation reports, and the part of the fingerprint that says all this.
"""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
import transformers

from itl_hf.text import Row, RowTokenizer, Span, Tokens

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from itl_hf.embedding.embedders.base import Fingerprint

_LONGEST_DEFAULT = 2048


class LanguageModel:
    """Rows of text -> padded token ids on the model's device.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            Used as it is: not copied, not cast, not moved.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Defaults to the one saved with the model.
        span (`"prompt"`, `"completion"` or `"whole"`, *optional*, defaults to `"whole"`):
            Which part of a row is needed; see `RowTokenizer`.
        max_length (`int`, *optional*):
            Tokens beyond are cut from the end. Defaults to the model's context, at most 2048.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code from the model's repository may run.

    Raises:
        `ValueError`: A `max_length` beyond the model's context, or a tokenizer that is unknown or of another model.
        `TypeError`: `tokenizer` is something else.

    Example:
        >>> reader = LanguageModel(load_model(model))
        >>> input_ids, attention_mask = reader.pad(reader.tokens([{"prompt": "What is 2 + 2?"}]))
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        tokenizer: PreTrainedTokenizerBase | None = None,
        span: Span = "whole",
        max_length: int | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.model = model
        self.tokenizer = _checked_tokenizer(tokenizer, model, revision, trust_remote_code)
        self.span: Span = span
        self.max_length = _resolve_max_length(max_length, context(model))
        self.revision = revision
        self._rows = RowTokenizer(self.tokenizer, max_length=self.max_length, span=span)
        self._truncated: list[int] = []

    @property
    def device(self) -> torch.device:
        """Where token ids have to be."""
        return cast("nn.Embedding", self.model.get_input_embeddings()).weight.device

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raise for rows that cannot be read, without running the model.

        With `span="completion"` the rows are tokenized, since a prompt that fills `max_length` leaves no completion.
        """
        if self.span == "completion":
            self._rows(rows, first_row)
        else:
            self._rows.check(rows, first_row)

    def tokens(self, rows: Sequence[Row], first_row: int = 0) -> list[Tokens]:
        """Token ids of `rows`, in their order; those that were cut are noted for `report_truncation`.

        Raises:
            `ValueError`: A row without text, or without the span asked for.
        """
        tokens = self._rows(rows, first_row)
        self._truncated += [first_row + i for i, row in enumerate(tokens) if row.truncated]
        return tokens

    def token_counts(self, rows: Sequence[Row]) -> list[int]:
        """Tokens that the model reads of each row; nothing is noted for `report_truncation`."""
        return [len(row.input_ids) for row in self._rows(rows)]

    def pad(self, rows: Sequence[Tokens]) -> tuple[Tensor, Tensor]:
        """Ids and attention mask on the model's device, each (B, T) int64, padded on the right."""
        longest = max(len(row.input_ids) for row in rows)
        input_ids = torch.full((len(rows), longest), self._pad_id())  # (B, T)
        attention = torch.zeros(len(rows), longest, dtype=torch.long)  # (B, T)
        for i, row in enumerate(rows):
            input_ids[i, : len(row.input_ids)] = torch.tensor(row.input_ids)
            attention[i, : len(row.input_ids)] = 1
        return input_ids.to(self.device), attention.to(self.device)

    def fingerprint(self) -> Fingerprint:
        """What determines the token ids of a row and which model reads them; its weights are the embedder's to add."""
        config = self.model.config
        return {
            "model": str(config._name_or_path or type(self.model).__name__),
            "revision": self.revision or getattr(config, "_commit_hash", None),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "span": self.span,
            "max_length": self.max_length,
            "tokenizer": tokenizer_hash(self.tokenizer),
            "chat_template": short_hash(str(self.tokenizer.chat_template)) if self.tokenizer.chat_template else None,
        }

    def report_truncation(self) -> None:
        """Warn, once and with their number, about the rows cut since the last report."""
        cut, self._truncated = self._truncated, []
        if cut:
            warnings.warn(
                f"{len(cut)} row(s) are longer than max_length={self.max_length} tokens; what is beyond was cut from "
                f"their end (the first is row {min(cut)}).",
                stacklevel=4,
            )

    def _pad_id(self) -> int:
        # RoBERTa numbers its positions by comparing ids with the config's padding id, so that one comes first.
        candidates = (
            getattr(self.model.config, "pad_token_id", None),
            self.tokenizer.pad_token_id,
            self.tokenizer.eos_token_id,
        )
        return next((int(c) for c in candidates if isinstance(c, int) and c >= 0), 0)


def load_model(
    name: str | Path,
    *,
    head: bool = False,
    dtype: str = "float32",
    device: str | torch.device | None = None,
    **options: Any,
) -> PreTrainedModel:
    """`from_pretrained` of `AutoModel`, or with `head` of `AutoModelForCausalLM`, with errors that say what to do.

    Args:
        name (`str` or `Path`):
            A Hub id or a folder.
        head (`bool`, *optional*, defaults to `False`):
            Whether the language-model head is needed.
        dtype (`str`, *optional*, defaults to `"float32"`):
            `"float32"`, `"bfloat16"` or `"float16"`.
        device (`str` or `torch.device`, *optional*):
            Defaults to this process's GPU, else the CPU.
        options:
            `revision`, `trust_remote_code` and others of `from_pretrained`.

    Raises:
        `ValueError`: An unknown `dtype`, or no model of that name.
    """
    kind = transformers.AutoModelForCausalLM if head else transformers.AutoModel
    try:
        model: Any = kind.from_pretrained(str(name), dtype=torch_dtype(dtype), **options)
    except OSError as error:
        raise ValueError(
            f"no model at {str(name)!r}, neither as a folder with a config.json nor on the Hub: {error}"
        ) from error
    loaded: nn.Module = model.to(device or default_device())
    return cast("PreTrainedModel", loaded)


def without_peft(model: nn.Module, virtual_tokens: str) -> PreTrainedModel:
    """The transformers model inside a PEFT model, whose adapters live in its layers; others as they are.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            A live model.
        virtual_tokens (`str`):
            What virtual tokens do here, for the error about an adapter that works through them.

    Raises:
        `TypeError`: Such an adapter, or no model of transformers.
    """
    if hasattr(model, "get_base_model"):
        if model.active_peft_config.is_prompt_learning:  # type: ignore[union-attr]
            raise TypeError(
                f"this adapter works through virtual tokens, which {virtual_tokens}; pass "
                "model.get_base_model() to embed without it, or train a LoRA adapter."
            )
        model = cast("nn.Module", model.get_base_model())  # type: ignore[operator]
    if not isinstance(model, transformers.PreTrainedModel):
        raise TypeError(f"model must be a transformers model, a folder or a Hub id, got {type(model).__name__}.")
    return model


def default_device() -> torch.device:
    """This process's GPU, or the CPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    # torchrun and accelerate number the processes of a machine; each has one GPU.
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)) % torch.cuda.device_count())


def context(model: PreTrainedModel) -> int | None:
    """Longest input in tokens, `None` if the model sets no limit."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if limit is None and config.model_type != "t5":  # T5's n_positions is a training length; its positions are relative
        limit = getattr(config, "n_positions", None)
    if limit is None or limit < 1:
        return None
    table = getattr(getattr(model.base_model, "embeddings", None), "position_embeddings", None)
    # RoBERTa and its kin count positions from padding_idx + 1: 514 rows in the table hold 512 tokens.
    offset = getattr(table, "padding_idx", None)
    return int(limit) - (0 if offset is None else offset + 1)


def short_hash(text: str) -> str:
    """128 bits of SHA-256."""
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _resolve_max_length(max_length: int | None, context: int | None) -> int:
    if max_length is None:
        return min(_LONGEST_DEFAULT, context or _LONGEST_DEFAULT)
    if context is not None and max_length > context:
        raise ValueError(
            f"max_length={max_length} is more than the model's context of {context} tokens. Lower it, or leave it out."
        )
    return max_length


def torch_dtype(name: str) -> torch.dtype:
    """The torch type of that name; `ValueError` for one that models are not loaded in."""
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if name not in known:
        raise ValueError(f"dtype must be one of {list(known)}, got {name!r}.")
    return known[name]


def _checked_tokenizer(
    tokenizer: PreTrainedTokenizerBase | None, model: PreTrainedModel, revision: str | None, trust_remote_code: bool
) -> PreTrainedTokenizerBase:
    name = model.config._name_or_path
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
    known = cast("nn.Embedding", model.get_input_embeddings()).num_embeddings
    if len(tokenizer) > known:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} tokens but the model embeds {known}: they do not belong together, "
            "or the model needs model.resize_token_embeddings(len(tokenizer))."
        )
    return tokenizer


def tokenizer_hash(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of what decides a tokenizer's ids, padding and truncation aside."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return short_hash(repr(sorted(tokenizer.get_vocab().items())))
    # Padding and truncation are the last call's, not the tokenizer's own.
    backend = type(backend).from_str(backend.to_str())
    backend.no_padding()
    backend.no_truncation()
    return short_hash(backend.to_str())
