"""Features from a sentence-transformers model: small, fast, trained so that texts of like meaning are close.

A second model's view, not that of the model which will be trained: cheap enough for millions of rows, and blind to what
the trained model already knows. Texts are tokenized ahead in chunks, batched by their token count under a token budget
and run through the library's own modules in this process; what comes out is what `SentenceTransformer.encode` returns.
Not covered: images and other modalities, sparse and multi-vector encoders, the library's process pool.
"""

from __future__ import annotations

import functools
import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from itl_hf.embedding.embedders.backbone import evaluation_mode
from itl_hf.embedding.embedders.base import Embedded, Embedder
from itl_hf.embedding.embedders.batching import TokenBatches
from itl_hf.embedding.embedders.language_model import default_device, tokenizer_hash, torch_dtype
from itl_hf.embedding.embedders.sentence_model import (
    Chunk,
    EncoderIdentity,
    checked_encoder,
    chunks,
    describe_modules,
    load_encoder,
    name_of,
    resolve_prompt,
    tokenizer_of,
)
from itl_hf.text import Row, Span, checked_span, plain_text

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from itl_hf.embedding.embedders.base import Fingerprint

_CHARACTERS_PER_TOKEN = 4


class SentenceEncoder(Embedder):
    """Features from a sentence-transformers model.

    A string is encoded as it is; of a conversation the text of its messages, without a chat template, since sentence
    encoders are trained on plain text: one message is its content, more are a line `role: content` each. With
    `span="whole"` the completion follows its prompt: directly where they are strings, on a new line in conversations.

    Args:
        model (`str`, `Path` or `SentenceTransformer`):
            A Hub id, a folder, or a model. A model object is used as it is.
        span (`"prompt"`, `"completion"` or `"whole"`, *optional*, defaults to `"prompt"`):
            Which part of a row is encoded. With `"prompt"` the completion is not looked at.
        prompt_name (`str`, *optional*):
            Name of one of the model's own prompts ("query", ...), put before every text of pool and targets. Defaults
            to the model's default prompt. For a prompt that the model does not have, pass an object:
            `SentenceTransformer(name, prompts={"mine": "query: "}, default_prompt_name="mine")`.
        normalize_embeddings (`bool`, *optional*, defaults to `False`):
            Scale every row to norm 1, as the argument of `encode`; many models do it anyway.
        max_length (`int`, *optional*):
            Tokens beyond are cut. Defaults to the model's `max_seq_length`; of a model object, set it there.
        batch_tokens (`int`, *optional*, defaults to 8192):
            Most tokens in a batch, padding included. Lower it when memory runs out; the features stay the same.
        dtype (`"float32"`, `"bfloat16"` or `"float16"`, *optional*, defaults to `"float32"`):
            Of a model loaded here. The features are float32 in any case.
        device (`str` or `torch.device`, *optional*):
            Defaults to this process's GPU, else the CPU; for a model object, to where it is.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code from the model's repository may run.

    Raises:
        `ImportError`: Sentence-transformers is not installed.
        `ValueError`: No such model or prompt, or an argument out of range.
        `TypeError`: `model` is something else.

    Example:
        >>> encoder = SentenceEncoder("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> encoder.embed([{"prompt": "What is 2 + 2?"}]).shape  # doctest: +SKIP
        torch.Size([1, 384])
    """

    prepares_ahead = True

    def __init__(
        self,
        model: str | Path | SentenceTransformer,
        *,
        span: Span = "prompt",
        prompt_name: str | None = None,
        normalize_embeddings: bool = False,
        max_length: int | None = None,
        batch_tokens: int = 8192,
        dtype: str = "float32",
        device: str | torch.device | None = None,
        revision: str | None = None,
        trust_remote_code: bool = False,
    ) -> None:
        self.span: Span = checked_span(span)
        self._batches = TokenBatches(batch_tokens)
        if max_length is not None and max_length < 1:
            raise ValueError(f"max_length must be at least 1, got {max_length}.")
        wanted = torch_dtype(dtype)
        if isinstance(model, str | Path):
            hub: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
            # Cast after loading: each module of the model has its own idea of how to load, all can be cast.
            self.model = load_encoder(model, device=str(device or default_device()), **hub).to(wanted)
            self._set_max_length(max_length)
        else:
            self.model = checked_encoder(model) if device is None else checked_encoder(model).to(device)
            if max_length is not None:
                raise ValueError("max_length is for a model loaded here; of a model object set model.max_seq_length.")
        self.name = str(model) if isinstance(model, str | Path) else name_of(self.model)
        self.revision = revision
        self.prompt = resolve_prompt(self.model, prompt_name)
        self.normalize_embeddings = normalize_embeddings
        self._identity = EncoderIdentity(self.model)
        self._truncated: list[int] = []
        # A fast tokenizer refuses a second thread, and rows are prepared in one.
        self._tokenizing = threading.Lock()

    @functools.cached_property
    def dimension(self) -> int:
        """Numbers in a sentence embedding."""
        ask = getattr(self.model, "get_embedding_dimension", None) or self.model.get_sentence_embedding_dimension
        declared = ask()
        return int(declared if declared is not None else len(self.model.encode("a", show_progress_bar=False)))

    def fingerprint(self) -> Fingerprint:
        """Everything that determines the features of a row, computed anew at each call: a model may be in training."""
        tokenizer = tokenizer_of(self.model)
        return {
            "embedder": "sentence_encoder",
            "model": self.name,
            "revision": self.revision,
            "weights": self._identity.weights(),
            "modules": self._identity.modules(),
            "architecture": " > ".join(name for name, _ in describe_modules(self.model)),
            "dtype": str(getattr(next(self.model.parameters(), None), "dtype", "none")).removeprefix("torch."),
            "tokenizer": None if tokenizer is None else tokenizer_hash(tokenizer),
            "prompt": self.prompt,
            "max_seq_length": self.max_seq_length,
            "truncate_dim": self.model.truncate_dim,
            "normalize_embeddings": self.normalize_embeddings,
            "span": self.span,
        }

    @property
    def batch_tokens(self) -> int:  # type: ignore[override]
        """Most tokens in a batch; less than what was given where memory ran out."""
        return self._batches.batch_tokens

    def token_counts(self, rows: Sequence[Row]) -> list[int]:
        """Tokens that the model reads of each row."""
        counts = [0] * len(rows)
        for chunk in self.prepare(rows):
            for place, length in zip(chunk.places, chunk.lengths, strict=True):
                counts[place] = int(length)
        return counts

    @property
    def max_seq_length(self) -> int | None:
        """Tokens that the model reads of a text, `None` if it sets no limit."""
        limit = getattr(self.model, "max_seq_length", None)
        # Tokenizers without a limit say 10**30.
        return int(limit) if limit is not None and limit < 1 << 31 else None

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raise for rows that `embed` would refuse, without running the model."""
        for number, row in enumerate(rows, first_row):
            self._text(row, number)

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
            `Tensor`: shape (len(rows), d), float32, on the CPU; equal to `SentenceTransformer.encode` of the same texts
            up to rounding.

        Raises:
            `ValueError`: A row without text, or without the span asked for.
        """
        features = self.embed_prepared(self.prepare(rows, first_row), on_rows=on_rows).features
        if on_rows is None:
            self.report_truncation()
        return features

    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> list[Chunk]:
        """Token ids: what can be done for the next rows while the model is busy with these."""
        texts = [self._text(row, number) for number, row in enumerate(rows, first_row)]
        return [self._tokenized(places, [texts[i] for i in places], first_row) for places in chunks(texts)]

    def embed_prepared(self, prepared_rows: list[Chunk], *, on_rows: Callable[[int], None] | None = None) -> Embedded:
        """As `embed`, from what `prepare` returned, with the column `tokens` where the model's tokenizer tells it."""
        count = sum(len(chunk.places) for chunk in prepared_rows)
        features = torch.empty(count, self.dimension)  # (B, d)
        tokens = torch.zeros(count, dtype=torch.int64)  # (B,)
        for chunk in prepared_rows:
            tokens[chunk.places] = torch.tensor(chunk.lengths)
            for batch, encoded in self._batches.run(chunk.lengths, functools.partial(self._encoded, chunk)):
                features[[chunk.places[i] for i in batch]] = encoded
                if on_rows is not None:
                    on_rows(len(batch))
        counted = all(chunk.features is not None for chunk in prepared_rows)
        return Embedded(features, {"tokens": tokens} if counted else {})

    def report_truncation(self) -> None:
        """Warn, once and with their number, about the rows cut since the last report."""
        cut, self._truncated = self._truncated, []
        if cut:
            warnings.warn(
                f"{len(cut)} row(s) are longer than the encoder's max_seq_length={self.max_seq_length} tokens; what is "
                f"beyond was cut (the first is row {min(cut)}).",
                stacklevel=3,
            )

    def _set_max_length(self, max_length: int | None) -> None:
        if max_length is None:
            return
        longest = self.max_seq_length
        if longest is not None and max_length > longest:
            raise ValueError(f"max_length={max_length} is more than the {longest} tokens that the model reads.")
        self.model.max_seq_length = max_length

    def _text(self, row: Row, number: int) -> str:
        unseen = ("completion",) if self.span == "prompt" else ()
        try:
            prompt, completion = plain_text({name: value for name, value in row.items() if name not in unseen})
        except ValueError as error:
            raise ValueError(f"row {number}: {error}") from error
        if self.span == "prompt":
            return prompt
        if self.span == "whole":
            # Strings belong together as they are, as in training; messages have no text between them.
            return prompt + (completion if isinstance(row.get("prompt"), str) else f"\n{completion}".rstrip("\n"))
        if not completion:
            raise ValueError(
                f"row {number} has no completion, but span='completion'. Drop such rows, or use span='prompt' or "
                "span='whole'."
            )
        return completion

    def _tokenized(self, places: list[int], texts: list[str], first_row: int) -> Chunk:
        features = self._preprocessed(texts)
        mask = features.get("attention_mask")
        ids = features.get("input_ids")
        if mask is None or ids is None or mask.shape != ids.shape or len(mask) != len(texts):
            # No table of tokens (bags of words, packed rows): encoded from the texts, like `encode` in small batches.
            most = self.max_seq_length or 1 << 31
            guess = [min(most, 1 + len(self.prompt + text) // _CHARACTERS_PER_TOKEN) for text in texts]
            return Chunk(places, texts, guess, None)
        lengths = mask.sum(1).tolist()
        self._truncated += [first_row + places[i] for i in self._cut(texts, lengths)]
        return Chunk(places, texts, lengths, features)

    def _cut(self, texts: list[str], lengths: list[int]) -> list[int]:
        """Which texts have more tokens than were kept; only those at the limit have to be counted in full."""
        limit, tokenizer = self.max_seq_length, tokenizer_of(self.model)
        full = [i for i, length in enumerate(lengths) if limit is not None and length >= limit]
        if not full or tokenizer is None:
            return []
        with self._tokenizing:
            whole = tokenizer([self.prompt + texts[i] for i in full], truncation=False, padding=False, verbose=False)
        return [i for i, ids in zip(full, whole["input_ids"], strict=True) if len(ids) > lengths[i]]

    def _preprocessed(self, texts: list[str]) -> dict[str, Any]:
        with self._tokenizing:
            return dict(self.model.preprocess(texts, prompt=self.prompt or None))

    @torch.inference_mode()
    def _encoded(self, chunk: Chunk, batch: list[int]) -> Tensor:
        features = chunk.rows(batch) or self._preprocessed([chunk.texts[i] for i in batch])
        device = self.model.device
        moved = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in features.items()}
        with evaluation_mode(self.model):
            encoded: Tensor = self.model(moved)["sentence_embedding"]  # (B, d)
        encoded = encoded[..., : self.model.truncate_dim]
        if self.normalize_embeddings:
            encoded = torch.nn.functional.normalize(encoded, dim=1)
        return encoded.float().cpu()
