"""Base class of the embedders that read rows with a language model.

It holds what these embedders share and what does not depend on the kind of features: the model's tokenizer, the longest
row, padding (always on the right, whatever the tokenizer's padding side), the report of rows that were cut, and the
part of the fingerprint that identifies all this.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch.nn.utils.rnn import pad_sequence

from itl_hf.embedding.embedders.base import TwoStageEmbedder
from itl_hf.embedding.embedders.batch_effects import choose_grouping
from itl_hf.embedding.embedders.model_loading import embedding_table, resolve_max_length, resolve_tokenizer
from itl_hf.embedding.embedders.offloading import execution_device
from itl_hf.embedding.embedders.quantization import quantization_of
from itl_hf.embedding.embedders.tokenizer_hash import tokenizer_entries
from itl_hf.text import Row, RowTokenizer, Span, Tokens

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from itl_hf.embedding.embedders.base import Fingerprint
    from itl_hf.embedding.embedders.batching import TokenBatches


class LanguageModelEmbedder(TwoStageEmbedder):
    """Tokenizes rows for a language model; a subclass computes features from the token ids.

    Args:
        model (`PreTrainedModel`):
            Used as it is: not copied, not cast, not moved.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Defaults to the one saved with the model.
        span (`"prompt"`, `"completion"` or `"whole"`):
            Which part of a row is needed; see `RowTokenizer`.
        max_length (`int`, *optional*):
            Tokens beyond are cut from the end. Defaults to the model's context, at most 2048.
        batches (`TokenBatches`):
            Groups rows into batches; copies of an embedder share it.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        trust_remote_code (`bool`):
            Whether code from the model's repository may run.

    Raises:
        `ValueError`: If `max_length` is beyond the model's context, or the tokenizer is unknown or of another model.
        `TypeError`: If `tokenizer` is not a tokenizer of transformers.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        tokenizer: PreTrainedTokenizerBase | None,
        span: Span,
        max_length: int | None,
        batches: TokenBatches,
        revision: str | None,
        trust_remote_code: bool,
    ) -> None:
        self.model = model
        self.tokenizer: PreTrainedTokenizerBase = resolve_tokenizer(tokenizer, model, revision, trust_remote_code)
        self.max_length = resolve_max_length(max_length, model)
        self.revision = revision
        self._batches = batches
        self._set_span(span)

    def _set_span(self, span: Span) -> None:
        self.span: Span = span
        self._row_tokenizer = RowTokenizer(self.tokenizer, max_length=self.max_length, span=span)
        self._truncated_rows: list[int] = []

    @property
    def batch_tokens(self) -> int:  # type: ignore[override]
        """Most tokens in a batch, padding included; halved each time memory ran out."""
        return self._batches.batch_tokens

    def fingerprint(self) -> Fingerprint:
        """Returns what determines the token ids of a row, and the name of the model; a subclass adds its weights."""
        config, quantization = self.model.config, quantization_of(self.model)
        return {
            "model": str(config._name_or_path or type(self.model).__name__),
            # The commit on the Hub, which a model in a folder does not have; else what users named.
            "revision": getattr(config, "_commit_hash", None) or self.revision,
            "dtype": str(self.model.dtype).removeprefix("torch."),
            **({} if quantization is None else {"quantization": quantization}),
            "span": self.span,
            "max_length": self.max_length,
            **tokenizer_entries(self.tokenizer),
        }

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raises `ValueError` for rows that cannot be read, without running the model.

        With `span="completion"` the rows are tokenized, since a prompt that fills `max_length` leaves no completion.
        """
        if self.span == "completion":
            self._row_tokenizer(rows, first_row)
        else:
            self._row_tokenizer.check(rows, first_row)

    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> list[Tokens]:
        """Tokenizes `rows`, in their order, and remembers which were cut for `report_truncation`.

        Raises:
            `ValueError`: If a row has no text, or not the span that is embedded.
        """
        tokens = self._row_tokenizer(rows, first_row)
        self._truncated_rows += [first_row + i for i, row in enumerate(tokens) if row.is_truncated]
        return tokens

    def token_counts(self, rows: Sequence[Row]) -> list[int]:
        """Returns the number of tokens that the model reads of each row."""
        return [len(row.input_ids) for row in self._row_tokenizer(rows)]

    def pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Returns token ids and attention mask on the model's device, each (B, T) int64, padded on the right."""
        # RoBERTa numbers its positions by comparing ids with the padding id of the config, so that one comes first.
        config_id = getattr(self.model.config, "pad_token_id", None)
        # SmolVLM's config and others have one beyond the vocabulary.
        candidates = (config_id, self.tokenizer.pad_token_id, self.tokenizer.eos_token_id)
        table = embedding_table(self.model)
        pad_id = next((id_ for id_ in candidates if isinstance(id_, int) and 0 <= id_ < table.num_embeddings), 0)
        device = execution_device(table)
        ids = [torch.tensor(row) for row in rows]
        input_ids = pad_sequence(ids, batch_first=True, padding_value=pad_id)  # (B, T)
        attention = pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)  # (B, T)
        return input_ids.to(device), attention.to(device)

    def compute_device(self) -> str:
        """Returns the device of the model's input embedding."""
        return str(execution_device(embedding_table(self.model)))

    def choose_grouping(
        self, features: Callable[[Sequence[Tokens]], Tensor], rows: Sequence[Tokens], span: Span
    ) -> None:
        """Chooses, at the first use, which rows a batch may hold; see `batch_effects.choose_grouping`."""
        choose_grouping(
            self._batches,
            features,
            rows,
            span=span,
            max_length=self.max_length,
            dtype=self.model.dtype,
            name=type(self.model).__name__,
        )

    def _truncation_message(self, rows: Sequence[int]) -> str:
        return (
            f"{len(rows)} row(s) are longer than max_length={self.max_length} tokens; what is beyond was cut from "
            f"their end (the first is row {min(rows)})."
        )
