"""Returns freed memory to the system.

Batches of many shapes leave gaps in the heap that glibc would keep, and more of them each hour.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys


def release_free_memory() -> None:
    """Returns unused pages of the heap to the system. Does nothing if the C library has no `malloc_trim`."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):  # not glibc
            ctypes.CDLL(None).malloc_trim(0)
