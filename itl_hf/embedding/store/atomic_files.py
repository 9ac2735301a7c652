"""Files that appear whole or not at all, with a checksum at their end.

A file is written under another name, forced to the disk, and renamed. The checksum covers every byte before it, so
that a flipped bit is found wherever it is. The price is one pass over the file at its first use.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

_MARK = b"sha-256:"
_TRAILER = len(_MARK) + hashlib.sha256().digest_size
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class DamagedError(ValueError):
    """A file that is not what was written; the message says why."""


def write_whole(path: Path, content: bytes | pa.Buffer, *, checksum: bool = True) -> None:
    """Put `content` under `path`: all of it, on the disk, or nothing.

    Args:
        path (`Path`):
            Replaced if it exists.
        content (`bytes` or `pa.Buffer`):
            What the file holds.
        checksum (`bool`, *optional*, defaults to `True`):
            Whether 40 bytes with the SHA-256 of the content follow it. Readers of Arrow streams and of `.npy` files
            stop before them.

    Raises:
        `OSError`: The disk is full, or cannot be written; nothing is left behind.
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
        _sync_directory(path.parent)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise OSError(
            error.errno,
            f"no room left on the disk for {path.name} ({len(content) / 1e6:.1f} MB): {error.strerror}. What was saved "
            "before is intact. Free some space and run the same command again; it goes on from there",
            str(path),
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


def read_whole(path: Path, *, verify: bool = True) -> pa.Buffer:
    """The content that `write_whole` put there, memory-mapped: the pages are given back when the buffer is dropped.

    Args:
        path (`Path`):
            The file.
        verify (`bool`, *optional*, defaults to `True`):
            Whether to read all of it and compare the checksum.

    Raises:
        `FileNotFoundError`: There is no such file.
        `DamagedError`: The file is truncated, or its checksum differs.
    """
    try:
        with pa.memory_map(str(path)) as file:
            content = file.read_buffer()
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:  # an empty file cannot be mapped
        raise DamagedError(f"it cannot be read: {error}") from error
    end = content.size - _TRAILER
    if end < 0 or bytes(content.slice(end, len(_MARK))) != _MARK:
        raise DamagedError("it is truncated")
    inner = content.slice(0, end)
    if verify and hashlib.sha256(inner).digest() != bytes(content.slice(end + len(_MARK))):
        raise DamagedError("its checksum differs")
    return inner


def is_whole(path: Path) -> bool:
    """Whether `path` is there and holds what was written."""
    try:
        read_whole(path)
    except (FileNotFoundError, DamagedError):
        return False
    return True


def remove_temporary(directory: Path) -> None:
    """Delete what killed processes left half written. Only for the holder of the directory's lock."""
    for stale in directory.glob("*.tmp"):
        stale.unlink(missing_ok=True)


@contextlib.contextmanager
def only_writer(directory: Path) -> Iterator[None]:
    """Keeps a second run out of a directory; the operating system ends this with the process, however it ends.

    Where the file system knows no locks, nothing is kept out.

    Raises:
        `BlockingIOError`: Another run is at work there.
    """
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    handle = os.open(directory, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BlockingIOError(
                error.errno,
                "another run is embedding into this directory. Wait for it, end it, or choose another directory; to "
                "embed on several processes start them with torchrun or accelerate launch",
                str(directory),
            ) from error
        except OSError:  # the file system has no locks
            pass
        yield
    finally:
        os.close(handle)


def _sync_directory(directory: Path) -> None:
    """The new name is on the disk too, not only the content."""
    with contextlib.suppress(OSError):  # not every system opens directories
        handle = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
