"""Locks on folders, which the operating system removes when the process ends for any reason."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

_POLL_SECONDS = 0.1
#: Seconds after which a process that waits says so.
_QUIET_SECONDS = 1.0


@contextlib.contextmanager
def lock_folder(folder: Path, holder: str, wait_seconds: float = 0.0) -> Iterator[bool]:
    """Context in which no other process holds the lock of the folder. On a file system without locks it does nothing.

    Args:
        folder (`Path`):
            A folder that exists.
        holder (`str`):
            What the other process does, for messages, such as `"another run is embedding into this directory"`; then
            perhaps what to do about it if it is not waited for any longer.
        wait_seconds (`float`, *optional*, defaults to 0):
            How long to wait for the other process.

    Returns:
        `bool`: Whether another process held the lock before.

    Raises:
        `BlockingIOError`: If the other process still holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield False
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        start = time.monotonic()
        num_attempts = 0
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() - start >= wait_seconds:
                    raise BlockingIOError(error.errno, holder, str(folder)) from error
            except OSError:  # the file system has no locks
                break
            num_attempts += 1
            if num_attempts == round(_QUIET_SECONDS / _POLL_SECONDS):
                warnings.warn(
                    f"{folder}: waiting, because {holder.partition('.')[0]} (Ctrl-C ends this run)", stacklevel=4
                )
            time.sleep(_POLL_SECONDS)
        yield num_attempts > 0
    finally:
        os.close(handle)
