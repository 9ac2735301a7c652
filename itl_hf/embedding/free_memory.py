"""Freed memory back to the system: batches of many shapes leave holes that glibc would keep, more of them each hour."""

from __future__ import annotations

import contextlib
import ctypes
import sys


def give_back() -> None:
    """Returns pages that nothing uses; does nothing where the C library has no `malloc_trim`."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)
