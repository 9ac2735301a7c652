"""Locks on folders, which the operating system removes when the process ends for any reason.

Where the system can lock a folder (Linux, macOS), the folder itself is locked: no file is needed, not even on a
read-only disk. Elsewhere (Windows) a hidden file in it is locked, which is deleted at the end. `filelock` knows how.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import filelock

from itl_hf.disk.temporary import LOCK_NAME

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
    with _folder_lock(folder) if filelock.has_fcntl else _file_lock(folder) as try_to_lock:
        start = time.monotonic()
        num_attempts = 0
        while not try_to_lock():
            if time.monotonic() - start >= wait_seconds:
                raise BlockingIOError(errno.EAGAIN, holder, str(folder))
            num_attempts += 1
            if num_attempts == round(_QUIET_SECONDS / _POLL_SECONDS):
                warnings.warn(
                    f"{folder}: waiting, because {holder.partition('.')[0]} (Ctrl-C ends this run)", stacklevel=4
                )
            time.sleep(_POLL_SECONDS)
        yield num_attempts > 0


def empty_folder(folder: Path) -> None:
    """Deletes what is in a folder that this process has locked, except the file of the lock.

    Raises:
        `OSError`: If something cannot be deleted.
    """
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        elif entry.name != LOCK_NAME:
            os.unlink(entry.path)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[Callable[[], bool]]:
    """Context of a function that tries to lock the folder itself, until the end of the context."""
    handle = os.open(folder, os.O_RDONLY)

    def try_to_lock() -> bool:
        try:
            return filelock.lock_descriptor(handle, blocking=False)
        except OSError:  # the file system has no locks
            return True

    try:
        yield try_to_lock
    finally:
        os.close(handle)


@contextlib.contextmanager
def _file_lock(folder: Path) -> Iterator[Callable[[], bool]]:
    """Context of a function that tries to lock a hidden file in the folder, until the end of the context."""
    lock = filelock.FileLock(folder / LOCK_NAME, thread_local=False)

    def try_to_lock() -> bool:
        try:
            lock.acquire(blocking=False)
        except filelock.Timeout:
            return False
        return True

    try:
        yield try_to_lock
    finally:
        lock.release()  # deletes the file, if this process has locked it
