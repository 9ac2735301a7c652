"""`with_retries`: calls the Hub again if it is busy, and turns a broken connection into a `ConnectionError`.

`huggingface_hub` repeats some requests by itself, but not those that create a repository, a branch or a commit. A
request that the Hub refused with status 429 was not executed, so it is safe to repeat it. A request whose answer was
lost may have been executed; whether to repeat it is left to the caller.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError

Result = TypeVar("Result")

#: Seconds between attempts if the Hub does not say how long to wait.
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
LONGEST_WAIT = 120.0


def with_retries(call: Callable[[], Result], description: str) -> Result:
    """Calls the Hub, and calls it again after a pause if it answers "too many requests" (status 429).

    Args:
        call (`Callable`):
            The call. It may be made several times, but never again after it succeeded.
        description (`str`):
            What the call does, for error messages.

    Raises:
        `HfHubHTTPError`: If the Hub refused the request.
        `ConnectionError`: If the connection broke.
    """
    waits = iter(WAITS)
    while True:
        try:
            return call()
        except Exception as error:
            cause = _cause(error)
            wait = next(waits, None)
            if _status(cause) == 429 and wait is not None:
                time.sleep(_seconds_to_wait(cause, wait))
            elif _is_connection_error(cause):
                reason = str(cause) or type(cause).__name__
                raise ConnectionError(f"{description}: the connection to the Hub broke ({reason})") from error
            elif isinstance(cause, HfHubHTTPError):
                raise cause from None
            else:
                raise


def _cause(error: Exception) -> Exception:
    # `huggingface_hub` raises a `RuntimeError` from the error of uploading a large file.
    cause = error.__cause__
    return cause if type(error) is RuntimeError and isinstance(cause, Exception) else error


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _seconds_to_wait(error: Exception, default: float) -> float:
    retry_after = error.response.headers.get("Retry-After")  # type: ignore[attr-defined]
    try:
        return min(max(float(retry_after), 0.0), LONGEST_WAIT)
    except (TypeError, ValueError):  # no such header, or a date
        return default


def _is_connection_error(error: Exception) -> bool:
    # By the name of the class, because `huggingface_hub` has used `httpx` and `httpx2`.
    return isinstance(error, ConnectionError) or any(kind.__name__ == "TransportError" for kind in type(error).__mro__)
