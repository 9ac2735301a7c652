"""Features from a sentence-transformers model: small, fast, trained so that texts of similar meaning are close.

These features come from a second model, not from the one that will be trained: they are cheap enough for millions of
rows, but do not reflect what the trained model has already learned. Texts are tokenized ahead in chunks, grouped into
batches under a token budget and run through the library's own modules in this process; the result is what
`SentenceTransformer.encode` returns. Not covered: images and other modalities, sparse and multi-vector encoders, the
library's process pool.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from itl_hf.embedding.embedders.backbone import evaluation_mode
from itl_hf.embedding.embedders.base import Embedded, TwoStageEmbedder
from itl_hf.embedding.embedders.batch_effects import LONG, set_grouping
from itl_hf.embedding.embedders.batching import TokenBatches
from itl_hf.embedding.embedders.model_loading import default_device, torch_dtype
from itl_hf.embedding.embedders.option_checks import check_loading
from itl_hf.embedding.embedders.sentence_model import (
    Chunk,
    EncoderHash,
    beside_reversed,
    checked_encoder,
    chunks,
    commit_of,
    describe_modules,
    load_encoder,
    name_of,
    probe_texts,
    resolve_prompt,
    tokenizer_of,
)
from itl_hf.embedding.embedders.span_text import span_text
from itl_hf.embedding.embedders.tokenizer_hash import tokenizer_hash
from itl_hf.text import Row, Span, checked_span

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import Tensor

    from itl_hf.embedding.embedders.base import Fingerprint

_CHARACTERS_PER_TOKEN = 4


class SentenceEncoder(TwoStageEmbedder):
    """Features from a sentence-transformers model, equal to `SentenceTransformer.encode` up to rounding.

    A string is encoded as it is. Of a conversation the text of the messages is encoded, without a chat template, since
    sentence encoders are trained on plain text: a single message as its content, several as one line `role: content`
    each. With `span="whole"` the completion follows its prompt: directly where they are strings, on a new line in
    conversations.

    Args:
        model (`str`, `Path` or `SentenceTransformer`):
            A Hub id, a folder, or a model. A model object is used as it is.
        span (`"prompt"`, `"completion"` or `"whole"`, *optional*, defaults to `"prompt"`):
            Which part of a row is encoded. With `"prompt"` the completion is not read.
        prompt_name (`str`, *optional*):
            Name of one of the model's own prompts ("query", ...), which is put before every text of pool and targets.
            Defaults to the model's default prompt. For a prompt that the model does not have, pass an object:
            `SentenceTransformer(name, prompts={"mine": "query: "}, default_prompt_name="mine")`.
        normalize_embeddings (`bool`, *optional*, defaults to `False`):
            Whether to scale every row to norm 1, like the argument of `encode`; many models do it anyway.
        max_length (`int`, *optional*):
            Tokens beyond are cut. Defaults to the model's `max_seq_length`; for a model object, set it there.
        batch_tokens (`int`, *optional*, defaults to 8192):
            Most tokens in a batch, padding included. Lower it when memory runs out; the features stay the same.
        dtype (`"float32"`, `"bfloat16"` or `"float16"`, *optional*, defaults to `"float32"`):
            Type of a model loaded here. The features are float32 in any case.
        device (`str` or `torch.device`, *optional*):
            Defaults to this process's GPU, else the CPU; for a model object, to where it is.
        revision (`str`, *optional*):
            Branch, tag or commit on the Hub.
        trust_remote_code (`bool`, *optional*, defaults to `False`):
            Whether code from the model's repository may run.

    Raises:
        `ImportError`: If sentence-transformers is not installed.
        `ValueError`: If there is no such model or prompt, or an argument is out of range.
        `TypeError`: If `model` is of another kind.

    Example:
        >>> encoder = SentenceEncoder("sentence-transformers/all-MiniLM-L6-v2")  # doctest: +SKIP
        >>> encoder.embed([{"prompt": "What is 2 + 2?"}]).shape  # doctest: +SKIP
        torch.Size([1, 384])
    """

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
        check_loading(dtype=dtype, device=device, max_length=max_length)
        model_dtype = torch_dtype(dtype)
        if isinstance(model, str | Path):
            hub_options: dict[str, Any] = {"revision": revision, "trust_remote_code": trust_remote_code}
            # Cast after loading: the modules of a model load in different ways, but all can be cast.
            self.model = load_encoder(model, device=str(device or default_device()), **hub_options).to(model_dtype)
            self._set_max_length(max_length)
        else:
            self.model = checked_encoder(model) if device is None else checked_encoder(model).to(device)
            if max_length is not None:
                raise ValueError("max_length is for a model loaded here; of a model object set model.max_seq_length.")
        self.name = str(model) if isinstance(model, str | Path) else name_of(self.model)
        self.revision = commit_of(self.model) or revision
        self.prompt = resolve_prompt(self.model, prompt_name)
        self.normalize_embeddings = normalize_embeddings
        self._hash = EncoderHash(self.model)
        self._truncated_rows: list[int] = []
        # A fast tokenizer cannot be used by two threads at a time, and `prepare` runs in a thread of its own.
        self._tokenizer_lock = threading.Lock()

    @functools.cached_property
    def dimension(self) -> int:
        """Number of columns of a feature row."""
        model = self.model  # older versions of the library have another name for the method
        get_dimension = getattr(model, "get_embedding_dimension", None) or model.get_sentence_embedding_dimension
        dimension = get_dimension()
        return int(dimension if dimension is not None else len(model.encode("a", show_progress_bar=False)))

    def compute_device(self) -> str:
        """Returns the model's device."""
        return str(self.model.device)

    def fingerprint(self) -> Fingerprint:
        """Returns everything that determines the features of a row. Computed anew: the model may be in training."""
        tokenizer = tokenizer_of(self.model)
        return {
            "embedder": "sentence_encoder",
            "model": self.name,
            "revision": self.revision,
            "weights": self._hash.weights(),
            "modules": self._hash.modules(),
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
        """Most tokens in a batch, padding included; halved each time memory ran out."""
        return self._batches.batch_tokens

    def token_counts(self, rows: Sequence[Row]) -> list[int]:
        """Returns the number of tokens that the model reads of each row."""
        counts = [0] * len(rows)
        for chunk in self.prepare(rows):
            for place, length in zip(chunk.places, chunk.lengths, strict=True):
                counts[place] = int(length)
        return counts

    @property
    def max_seq_length(self) -> int | None:
        """Most tokens that the model reads of a text, `None` if it sets no limit."""
        limit = getattr(self.model, "max_seq_length", None)
        # Tokenizers without a limit report 10**30.
        return int(limit) if limit is not None and limit < 1 << 31 else None

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raises `ValueError` for rows that cannot be embedded, without running the model."""
        for number, row in enumerate(rows, first_row):
            span_text(row, number, self.span)

    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> list[Chunk]:
        """Tokenizes `rows` in chunks of similar length, and remembers which were cut for `report_truncation`.

        Raises:
            `ValueError`: If a row has no text, or not the span that is embedded.
        """
        texts = [span_text(row, number, self.span) for number, row in enumerate(rows, first_row)]
        return [self._tokenize(places, [texts[i] for i in places], first_row) for places in chunks(texts)]

    def embed_prepared(self, prepared_rows: list[Chunk], *, on_rows: Callable[[int], None] | None = None) -> Embedded:
        """Computes the features from what `prepare` returned, with the column `tokens` where token counts are exact."""
        self._choose_grouping(prepared_rows)
        count = sum(len(chunk.places) for chunk in prepared_rows)
        features = torch.empty(count, self.dimension)  # (B, d)
        tokens = torch.zeros(count, dtype=torch.int64)  # (B,)
        for chunk in prepared_rows:
            tokens[chunk.places] = torch.tensor(chunk.lengths)
            encode_batch = functools.partial(self._encode, chunk)
            for batch, batch_features in self._batches.run(chunk.lengths, encode_batch, on_rows):
                features[[chunk.places[i] for i in batch]] = batch_features
        has_counts = all(chunk.features is not None for chunk in prepared_rows)
        return Embedded(features, {"tokens": tokens} if has_counts else {})

    def _truncation_message(self, rows: Sequence[int]) -> str:
        return (
            f"{len(rows)} row(s) are longer than the encoder's max_seq_length={self.max_seq_length} tokens; what is "
            f"beyond was cut (the first is row {min(rows)})."
        )

    def _set_max_length(self, max_length: int | None) -> None:
        if max_length is None:
            return
        longest = self.max_seq_length
        if longest is not None and max_length > longest:
            raise ValueError(f"max_length={max_length} is more than the {longest} tokens that the model reads.")
        self.model.max_seq_length = max_length

    def _tokenize(self, places: list[int], texts: list[str], first_row: int) -> Chunk:
        features = self._preprocess(texts)
        mask = features.get("attention_mask")
        ids = features.get("input_ids")
        if mask is None or ids is None or mask.shape != ids.shape or len(mask) != len(texts):
            # The model has no padded token ids (bags of words, packed rows): batches are encoded from the texts, as
            # `encode` does, and their lengths are estimated.
            limit = self.max_seq_length or 1 << 31
            estimates = [min(limit, 1 + len(self.prompt + text) // _CHARACTERS_PER_TOKEN) for text in texts]
            return Chunk(places, texts, estimates, None)
        lengths = mask.sum(1).tolist()
        self._truncated_rows += [first_row + places[i] for i in self._truncated_texts(texts, lengths)]
        return Chunk(places, texts, lengths, features)

    def _truncated_texts(self, texts: list[str], lengths: list[int]) -> list[int]:
        """Returns the indices of texts that were cut; only those at the limit are tokenized again in full."""
        limit, tokenizer = self.max_seq_length, tokenizer_of(self.model)
        longest = [i for i, length in enumerate(lengths) if limit is not None and length >= limit]
        if not longest or tokenizer is None:
            return []
        with self._tokenizer_lock:
            whole = tokenizer([self.prompt + texts[i] for i in longest], truncation=False, padding=False, verbose=False)
        return [i for i, ids in zip(longest, whole["input_ids"], strict=True) if len(ids) > lengths[i]]

    def _preprocess(self, texts: list[str]) -> dict[str, Any]:
        with self._tokenizer_lock:
            return dict(self.model.preprocess(texts, prompt=self.prompt or None))

    def _choose_grouping(self, prepared_rows: list[Chunk]) -> None:
        """Chooses, at the first use, which rows a batch may hold; see `batch_effects.set_grouping`."""
        if self._batches.grouping is not None or not prepared_rows:
            return
        short, long = probe_texts([text for chunk in prepared_rows for text in chunk.texts[:LONG]])
        one = self._preprocess([short])
        alone = self._run_model(one)[0]
        padded = self._run_model(self._preprocess([short, long]))[0]
        others = self._run_model(beside_reversed(one) or self._preprocess([short, short]))[0]
        if prepared_rows[0].features is None:
            # The lengths of such texts are estimates, so that batches of one length cannot be formed.
            others = padded
        dtype = getattr(next(self.model.parameters(), None), "dtype", torch.float32)
        set_grouping(self._batches, alone, padded, others, dtype=dtype, name=self.name)

    def _encode(self, chunk: Chunk, batch: list[int]) -> Tensor:
        return self._run_model(chunk.rows(batch) or self._preprocess([chunk.texts[i] for i in batch]))

    @torch.inference_mode()
    def _run_model(self, features: dict[str, Any]) -> Tensor:
        """Returns the embeddings (B, d) of texts as the model's tokenizer returned them."""
        device = self.model.device
        inputs = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in features.items()}
        with evaluation_mode(self.model):
            embeddings: Tensor = self.model(inputs)["sentence_embedding"]  # (B, d)
        embeddings = embeddings[..., : self.model.truncate_dim]
        if self.normalize_embeddings:
            embeddings = torch.nn.functional.normalize(embeddings, dim=1)
        return embeddings.float().cpu()
