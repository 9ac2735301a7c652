"""Writes files atomically and with a checksum, and locks the directory that they are in.

A file is written under a temporary name, flushed to the disk and renamed, so that it exists complete or not at all. The
checksum at its end covers every byte before it and detects any flipped bit. Its cost is one pass over the file at the
first use.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from itl_hf.disk.lock import lock_folder
from itl_hf.disk.whole_files import sync_folder

_MARK = b"sha-256:"
_TRAILER = len(_MARK) + hashlib.sha256().digest_size
_HOLDER = (
    "another run is embedding into this directory. Wait for it, end it, or choose another directory; to embed on "
    "several processes start them with torchrun or accelerate launch"
)
#: Seconds since the last change of a file from which on its time identifies its content: file systems count time in
#: steps, and two changes within one step have the same time.
_SETTLED_SECONDS = 2.0
#: State on the disk of the files whose checksum this process has compared.
_compared: dict[str, tuple[int, ...]] = {}
_DISK_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DamagedError(ValueError):
    """Raised for a file whose content is not what was written. The message says what is wrong with it."""


def write_atomic(path: Path, content: bytes | pa.Buffer, *, checksum: bool = True) -> None:
    """Writes `content` to `path` completely or not at all.

    Args:
        path (`Path`):
            The file; an existing one is replaced.
        content (`bytes` or `pa.Buffer`):
            Content of the file.
        checksum (`bool`, *optional*, defaults to `True`):
            Whether to append 40 bytes with the SHA-256 of the content. Readers of Arrow streams and of `.npy` files
            ignore them.

    Raises:
        `OSError`: If the disk is full or cannot be written. No temporary file is left.
    """
    temporary = path.with_name(f"{path.name}.{socket.gethostname()}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            if checksum:
                file.write(_MARK + hashlib.sha256(content).digest())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno not in _DISK_FULL_ERRORS:
            raise
        raise OSError(
            error.errno,
            f"no room left on the disk for {path.name} ({len(content) / 1e6:.1f} MB): {error.strerror}. What was saved "
            "before is intact. Free some space and run the same command again; it goes on from there",
            str(path),
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_verified(path: Path, *, verify: bool = True) -> pa.Buffer:
    """Returns the content that `write_atomic` wrote, memory-mapped. Its memory is freed when the buffer is deleted.

    Args:
        path (`Path`):
            The file.
        verify (`bool`, *optional*, defaults to `True`):
            Whether to read all of the file and compare the checksum. A process does so once for each state of a file.

    Raises:
        `FileNotFoundError`: If there is no such file.
        `DamagedError`: If the file is truncated, or its checksum differs.
    """
    try:
        state = _state(path)
        with pa.memory_map(str(path)) as file:
            content = file.read_buffer()
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:  # an empty file cannot be mapped
        raise DamagedError(f"it cannot be read: {error}") from error
    end = content.size - _TRAILER
    if end < 0 or bytes(content.slice(end, len(_MARK))) != _MARK:
        raise DamagedError("it is truncated")
    payload = content.slice(0, end)
    if verify and _compared.get(os.path.abspath(path)) != state:
        if hashlib.sha256(payload).digest() != bytes(content.slice(end + len(_MARK))):
            raise DamagedError("its checksum differs")
        if time.time_ns() - max(state[-2:]) > _SETTLED_SECONDS * 1e9 and _state(path) == state:
            _compared[os.path.abspath(path)] = state
    return payload


def _state(path: Path) -> tuple[int, ...]:
    """Returns what changes with the content: the time of the last change (`ctime`) cannot be set back by a program."""
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def written_checksum(path: Path) -> bytes:
    """Returns the checksum at the end of a file that `write_atomic` wrote, without reading the file."""
    with path.open("rb") as file:
        file.seek(-min(_TRAILER, path.stat().st_size), os.SEEK_END)
        return file.read()


def is_intact(path: Path) -> bool:
    """Returns whether the file exists and its checksum is right."""
    try:
        read_verified(path)
    except (FileNotFoundError, DamagedError):
        return False
    return True


@contextlib.contextmanager
def lock_for_writing(directory: Path, wait_seconds: float = 0.0) -> Iterator[None]:
    """Locks a directory against other runs and deletes temporary files that killed processes left in it.

    The operating system removes the lock when the process ends for any reason. On a file system without locks, other
    runs are not kept out.

    Args:
        directory (`Path`):
            The directory.
        wait_seconds (`float`, *optional*, defaults to 0):
            How long to wait for another run.

    Raises:
        `BlockingIOError`: If another run holds the lock.
    """
    with lock_folder(directory, _HOLDER, wait_seconds):
        for path in directory.glob("*.tmp"):
            path.unlink(missing_ok=True)
        yield
