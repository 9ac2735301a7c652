"""Asking the Hub: waiting where it is busy, plain words where the connection breaks.

`huggingface_hub` repeats some requests by itself, but not those that make a repository, a branch or a commit. One that
was refused with status 429 was not carried out, so that repeating it is safe; one whose answer was lost may have been,
and is left to the caller.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from huggingface_hub.errors import HfHubHTTPError

Result = TypeVar("Result")

#: Seconds between attempts where the Hub asks for patience and does not say how much.
WAITS = (1.0, 2.0, 4.0, 8.0, 16.0)
LONGEST_WAIT = 120.0


def ask(call: Callable[[], Result], what: str) -> Result:
    """Calls the Hub, patiently where it says "too many requests".

    Args:
        call (`Callable`):
            What to do; it may be done several times, but never after it succeeded.
        what (`str`):
            The same in words, for errors.

    Raises:
        `HfHubHTTPError`: The Hub refused.
        `ConnectionError`: The connection broke.
    """
    waits = iter(WAITS)
    while True:
        try:
            return call()
        except Exception as error:
            cause = _cause(error)
            wait = next(waits, None)
            if _status(cause) == 429 and wait is not None:
                time.sleep(_patience(cause, wait))
            elif _is_broken(cause):
                reason = str(cause) or type(cause).__name__
                raise ConnectionError(f"{what}: the connection to the Hub broke ({reason})") from error
            elif isinstance(cause, HfHubHTTPError):
                raise cause from None
            else:
                raise


def _cause(error: Exception) -> Exception:
    """`huggingface_hub` wraps what happened to a large file in a `RuntimeError`."""
    inner = error.__cause__
    return inner if type(error) is RuntimeError and isinstance(inner, Exception) else error


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _patience(error: Exception, otherwise: float) -> float:
    asked = error.response.headers.get("Retry-After")  # type: ignore[attr-defined]
    try:
        return min(max(float(asked), 0.0), LONGEST_WAIT)
    except (TypeError, ValueError):  # none, or a date
        return otherwise


def _is_broken(error: Exception) -> bool:
    # The HTTP library has been `httpx` and is `httpx2`: its name is not for others to know.
    return isinstance(error, ConnectionError) or any(kind.__name__ == "TransportError" for kind in type(error).__mro__)
