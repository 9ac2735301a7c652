"""Features from a server with the OpenAI interface for embeddings, such as TEI, vLLM, Ollama or OpenAI itself.

The server decides how texts are cut and which numbers come back; a request that fails for a reason that may pass is
sent again. Shards are stored as they are complete, so that an interrupted run continues where it was.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import torch

from itl_hf.embedding.embedders.base import Embedder, Fingerprint
from itl_hf.embedding.embedders.endpoint_client import EndpointClient, endpoint_address
from itl_hf.embedding.embedders.span_text import span_text
from itl_hf.text import Row, Span, checked_span

if TYPE_CHECKING:
    from torch import Tensor

#: A text whose features tell whether the server still computes with the same model.
PROBE = "The quick brown fox jumps over the lazy dog: 12 + 30 = 42."
#: How many of the probe's features are compared: the largest ones, since rounding changes neither place nor sign.
_PROBE_NUMBERS = 16


class EndpointEmbedder(Embedder):
    """Features from a server that answers `POST /v1/embeddings` as OpenAI's does.

    Of a conversation the text of the messages is sent, without a chat template, as `SentenceEncoder` does. The key for
    the server is read from the environment and is never stored.

    Args:
        url (`str`):
            Address of the server, such as `"http://127.0.0.1:8080"`; `/v1/embeddings` is added where it is missing.
        model (`str`):
            The model's name at the server.
        span (`"prompt"`, `"completion"` or `"whole"`, *optional*, defaults to `"prompt"`):
            Which part of a row is embedded. With `"prompt"` the completion is not read.
        prefix (`str`, *optional*, defaults to `""`):
            What is put before every text, such as `"query: "` for E5.
        batch_size (`int`, *optional*, defaults to 32):
            Most texts in a request.
        concurrency (`int`, *optional*, defaults to 4):
            Most requests at the same time, for each process.
        timeout (`float`, *optional*, defaults to 60):
            Seconds to wait for an answer.
        max_attempts (`int`, *optional*, defaults to 6):
            How often a request is sent that fails for a reason that may pass: no connection, too many requests
            (429), a fault of the server (5xx). Pauses double from half a second, or are what the server asks for.
        api_key_variable (`str`, *optional*, defaults to `"ITL_HF_API_KEY"`):
            Environment variable that holds the key. No key is sent if it is not set.

    Raises:
        `ImportError`: If the extra `endpoint` is not installed.
        `ValueError`: If the address is no http address, holds a password or a query, or a number is out of range.

    Example:
        >>> embedder = EndpointEmbedder("http://127.0.0.1:8080", "intfloat/e5-small")  # doctest: +SKIP
        >>> Selector(embedder, store="features").select(pool, targets, 6)  # doctest: +SKIP
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        span: Span = "prompt",
        prefix: str = "",
        batch_size: int = 32,
        concurrency: int = 4,
        timeout: float = 60.0,
        max_attempts: int = 6,
        api_key_variable: str = "ITL_HF_API_KEY",
    ) -> None:
        for name, number in (
            ("batch_size", batch_size),
            ("concurrency", concurrency),
            ("timeout", timeout),
            ("max_attempts", max_attempts),
        ):
            if not number > 0:
                raise ValueError(f"{name} must be positive, got {number!r}")
        if not isinstance(model, str) or not model:
            raise ValueError(f"model must be the model's name at the server, got {model!r}")
        self.url, self.model = endpoint_address(url), model
        self.span: Span = checked_span(span)
        self.prefix, self.batch_size, self.concurrency = prefix, batch_size, concurrency
        self._client = EndpointClient(self.url, model, timeout, max_attempts, api_key_variable)
        self._probe_features: Tensor | None = None
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        """Numbers in a feature row; the server is asked when it is first read."""
        return len(self._probe())

    def fingerprint(self) -> Fingerprint:
        """Returns address, model, part of the row, prefix, dimension, and what the server computes for a probe text."""
        return {
            "embedder": "endpoint",
            "url": self.url,
            "model": self.model,
            "span": self.span,
            "prefix": self.prefix,
            "dimension": self.dimension,
            "probe": _largest_numbers_hash(self._probe()),
        }

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raises `ValueError` for rows without text, or without the part that is embedded; asks no server."""
        for number, row in enumerate(rows, first_row):
            span_text(row, number, self.span)

    def embed(self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None) -> Tensor:
        """Computes the features of `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time k more rows are embedded.

        Returns:
            `Tensor`: Shape (len(rows), dimension), float32, on the CPU.

        Raises:
            `ValueError`: If a row has no text, or the server refuses the request or answers something else.
            `ConnectionError`: If the server cannot be reached, or is still overloaded after all attempts.
        """
        texts = [self.prefix + span_text(row, number, self.span) for number, row in enumerate(rows, first_row)]
        dimension = self.dimension
        features = torch.empty(len(texts), dimension)  # (B, d)
        starts = range(0, len(texts), self.batch_size)

        def embed_batch(start: int) -> tuple[int, Tensor]:
            batch = texts[start : start + self.batch_size]
            return start, self._client.embeddings(batch, dimension, first_row + start)

        with ThreadPoolExecutor(self.concurrency) as threads:
            requests = [threads.submit(embed_batch, start) for start in starts]
            try:
                for request in requests:
                    start, part = request.result()
                    features[start : start + len(part)] = part
                    if on_rows is not None:
                        on_rows(len(part))
            except BaseException:
                threads.shutdown(wait=False, cancel_futures=True)
                raise
        return features

    def _probe(self) -> Tensor:
        """Returns the features (d,) of the probe text."""
        with self._lock:
            if self._probe_features is None:
                self._probe_features = self._client.embeddings([PROBE], None, None)[0]
            return self._probe_features

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _lock=threading.Lock())


def _largest_numbers_hash(features: Tensor) -> str:
    """Returns a hash of places and signs of the largest numbers, which do not change by rounding."""
    places = features.abs().topk(min(_PROBE_NUMBERS, len(features))).indices.sort().values
    signs = [(int(place), bool(features[place] > 0)) for place in places]
    return hashlib.sha256(json.dumps(signs).encode()).hexdigest()[:16]
