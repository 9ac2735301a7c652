"""Requests to a server of embeddings: what is sent, what is sent again, and checks of the answers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import torch

if TYPE_CHECKING:
    import httpx
    from torch import Tensor

#: Statuses of faults that may pass: time-outs, conflicts, too many requests; all of 500 and above are added.
_PASSING = (408, 409, 425, 429)
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
#: Characters of an answer that an error message quotes.
_QUOTED = 300


class _PassingError(ConnectionError):
    """A request that failed for a reason that may pass."""

    def __init__(self, message: str, pause: float | None = None) -> None:
        super().__init__(message)
        self.pause = pause


class EndpointClient:
    """Asks one server for embeddings. Threads may share it.

    Args:
        url (`str`):
            Address of the embeddings, as `endpoint_address` returns it.
        model (`str`):
            The model's name at the server.
        timeout (`float`):
            Seconds to wait for an answer.
        max_attempts (`int`):
            How often a request is sent that fails for a reason that may pass.
        api_key_variable (`str`):
            Environment variable of the key, which is read for each request and not kept.

    Raises:
        `ImportError`: If the extra `endpoint` is not installed.
    """

    def __init__(self, url: str, model: str, timeout: float, max_attempts: int, api_key_variable: str) -> None:
        try:
            import httpx
            import tenacity  # noqa: F401
        except ModuleNotFoundError as error:
            raise ImportError('EndpointEmbedder asks a server: pip install "itl-hf[endpoint]"') from error
        self.url, self.model, self.max_attempts = url, model, max_attempts
        self.timeout, self.api_key_variable = timeout, api_key_variable
        # An address that the server names instead would get the key.
        self._session = httpx.Client(timeout=timeout, follow_redirects=False)

    def embeddings(self, texts: list[str], dimension: int | None, first_row: int | None) -> Tensor:
        """Returns the features (B, d) of texts, in their order.

        Args:
            texts (`list[str]`):
                At least one.
            dimension (`int`, *optional*):
                d, if it is known.
            first_row (`int`, *optional*):
                Number of the first text's row, for messages.

        Raises:
            `ValueError`: If the server refuses the texts or answers something else.
            `ConnectionError`: If it cannot be reached after all attempts.
        """
        import tenacity

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_PassingError),
            stop=tenacity.stop_after_attempt(self.max_attempts),
            wait=_pause,
            sleep=time.sleep,
        )
        where = "a probe text" if first_row is None else f"rows {first_row} to {first_row + len(texts) - 1}"
        try:
            answer = attempts(self._request, texts, where)
        except tenacity.RetryError as error:
            cause = error.last_attempt.exception()
            raise ConnectionError(
                f"{cause} ({self.max_attempts} attempts). What was stored is kept: run the same again"
            ) from cause
        return _features(answer, len(texts), dimension, f"{self.url} for {where}")

    def _request(self, texts: list[str], where: str) -> Any:
        import httpx

        key = os.environ.get(self.api_key_variable)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        body = {"model": self.model, "input": texts, "encoding_format": "float"}
        try:
            response = self._session.post(self.url, json=body, headers=headers)
        except httpx.TransportError as error:
            raise _PassingError(f"{self.url} cannot be reached: {type(error).__name__} {error}") from None
        status = response.status_code
        if status in _PASSING or status >= 500:
            raise _PassingError(f"{self.url} answered {status} for {where}: {_quote(response)}", _asked_pause(response))
        if status in (401, 403):
            raise ValueError(
                f"{self.url} refuses the key (status {status}): set the environment variable {self.api_key_variable}"
            )
        if status != 200:
            raise ValueError(f"{self.url} refuses {where} (status {status}): {_quote(response)}")
        try:
            return response.json()
        except ValueError:
            raise ValueError(f"{self.url} answered no JSON for {where}: {_quote(response)}") from None

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        import httpx

        vars(self).update(state, _session=httpx.Client(timeout=state["timeout"], follow_redirects=False))


def endpoint_address(url: str) -> str:
    """Returns the address of the embeddings at a server.

    Raises:
        `ValueError`: If it is no http address, or holds a password or a query, which would be recorded.

    Example:
        >>> endpoint_address("http://127.0.0.1:8080"), endpoint_address("https://api.openai.com/v1/")
        ('http://127.0.0.1:8080/v1/embeddings', 'https://api.openai.com/v1/embeddings')
    """
    parts = urlsplit(url) if isinstance(url, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url must be the address of a server, such as 'http://127.0.0.1:8080', got {url!r}")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError(
            "url must hold no user, password or query, because it is recorded: set the key in the environment variable "
            "that api_key_variable names"
        )
    path = parts.path.rstrip("/")
    if not path.endswith("/embeddings"):
        path += "/embeddings" if path.endswith("/v1") else "/v1/embeddings"
    return urlunsplit((parts.scheme, parts.netloc, path, "", ""))


def _features(answer: Any, num_texts: int, dimension: int | None, where: str) -> Tensor:
    """Returns the features (B, d) in an answer, whose entries name the place of their text."""
    try:
        entries = {int(entry["index"]): entry["embedding"] for entry in answer["data"]}
        rows = [entries[number] for number in range(num_texts)]
        features = torch.tensor(rows, dtype=torch.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{where}: the answer does not hold {num_texts} embeddings of one length, numbered from 0 "
            f"({type(error).__name__}: {str(error)[:_QUOTED]})"
        ) from None
    if len(entries) != num_texts or features.ndim != 2 or not features.shape[1]:
        raise ValueError(f"{where}: the answer holds {len(entries)} embeddings for {num_texts} texts, or empty ones")
    if dimension is not None and features.shape[1] != dimension:
        raise ValueError(
            f"{where}: an embedding has {features.shape[1]} numbers, and that of the probe text {dimension}: the "
            "server's model was changed"
        )
    return features


def _pause(state: Any) -> float:
    """Returns the seconds before the next attempt: what the server asks for, or twice the last pause."""
    error = state.outcome.exception()
    pause = _FIRST_PAUSE * 2.0 ** (state.attempt_number - 1)
    return float(min(error.pause if error.pause is not None else pause, _LONGEST_PAUSE))


def _asked_pause(response: httpx.Response) -> float | None:
    """Returns the header `Retry-After` in seconds; `None` if there is none, or it is a date."""
    text = response.headers.get("Retry-After", "")
    return float(text) if text.isdigit() else None


def _quote(response: httpx.Response) -> str:
    return response.text[:_QUOTED].strip()
