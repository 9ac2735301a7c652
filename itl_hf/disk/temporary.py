"""Names of temporary files and folders, from which it can be told whether the process that made them is dead.

A process that is killed cannot delete what it was writing. The next process that writes in the same folder does so: the
name of every temporary path holds the machine and the process that made it.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: The file by which a folder is locked where the system cannot lock folders.
LOCK_NAME = ".itl-hf.lock"
_SUFFIX = ".itl-hf.tmp"
_NAME = re.compile(r"-(\d+)-([0-9a-f]{8})" + re.escape(_SUFFIX))
#: Seconds after which the temporary paths of another machine, whose processes cannot be seen from here, are deleted.
_OTHER_MACHINE_SECONDS = 24 * 3600.0
#: Characters of a name that become part of the temporary name, which file systems limit to 255 bytes.
_NAME_LENGTH = 40
#: Random parts of the names that this process made; another process before it may have had the same number.
_own_tokens: set[str] = set()


def temporary_path(folder: Path, name: str) -> Path:
    """Returns a new hidden path in `folder` for a file or folder that will get the name `name`; it is not made yet.

    Args:
        folder (`Path`):
            Where the path is.
        name (`str`):
            Beginning of its name, for `remove_leftovers`.
    """
    token = secrets.token_hex(4)
    _own_tokens.add(token)
    return folder / f"{_prefix(name)}{socket.gethostname()}-{os.getpid()}-{token}{_SUFFIX}"


@contextlib.contextmanager
def temporary_folder(name: str, folder: Path | None = None) -> Iterator[Path]:
    """Context of a new folder that only this user can read and that is deleted at the end.

    Args:
        name (`str`):
            Beginning of its name.
        folder (`Path`, *optional*):
            Where it is made; the system's folder for temporary files if left out.
    """
    parent = Path(tempfile.gettempdir()) if folder is None else folder
    remove_leftovers(parent, name)
    path = temporary_path(parent, name)
    try:
        path.mkdir(mode=0o700)
        yield path
    finally:
        remove(path)


def is_temporary(name: str) -> bool:
    """Returns whether a file name is one that `temporary_path` made, or that of a lock."""
    return name == LOCK_NAME or (name.startswith(".") and _NAME.search(name) is not None)


def temporary_paths(folder: Path, name: str) -> list[Path]:
    """Returns the temporary paths of this name in `folder`, of living and of dead processes.

    Raises:
        `OSError`: If the folder cannot be read.
    """
    return [
        Path(entry.path)
        for entry in os.scandir(folder)
        if entry.name.startswith(_prefix(name)) and is_temporary(entry.name)
    ]


def remove_leftovers(folder: Path, name: str) -> None:
    """Deletes the temporary paths of this name in `folder` whose processes are dead. What cannot be deleted stays."""
    with contextlib.suppress(OSError):
        for path in temporary_paths(folder, name):
            if _is_abandoned(path):
                remove(path)


def remove(path: Path) -> None:
    """Deletes a file or a folder with its content, if it exists. What cannot be deleted stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _prefix(name: str) -> str:
    return f".{name[:_NAME_LENGTH]}-"


def _is_abandoned(path: Path) -> bool:
    match = _NAME.search(path.name)
    if match is None:
        return False
    process, token = int(match[1]), match[2]
    if not path.name[: match.start()].endswith(f"-{socket.gethostname()}") or os.name == "nt":
        with contextlib.suppress(OSError):
            return time.time() - path.stat().st_mtime > _OTHER_MACHINE_SECONDS
        return False
    if process == os.getpid():
        return token not in _own_tokens
    try:
        os.kill(process, 0)  # no signal: asks whether the process exists
    except ProcessLookupError:
        return True
    except OSError:  # the process of another user
        return False
    return False
