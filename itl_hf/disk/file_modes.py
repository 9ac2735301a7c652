"""Permissions of new files: those of the umask, and never more than the folder has in which they are.

Temporary files have mode 0600 whatever the umask is. A report or a selection holds prompts: in a folder that only its
owner can open, files are for the owner only, also after they are moved elsewhere.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

_PERMISSIONS = 0o777


def new_file_mode(folder: Path) -> int:
    """Returns the mode of a new file in a folder that exists: read and write as umask and folder allow."""
    return new_folder_mode(folder) & 0o666


def new_folder_mode(parent: Path) -> int:
    """Returns the mode of a new folder in a folder that exists."""
    return _PERMISSIONS & ~current_umask() & (parent.stat().st_mode & _PERMISSIONS | 0o700)


def make_folder(path: Path) -> None:
    """Makes a folder, with those above it that are missing; each has the mode that the one above it allows."""
    if path.is_dir():
        return
    make_folder(path.parent)
    with contextlib.suppress(FileExistsError):  # another process was faster
        path.mkdir()
        path.chmod(new_folder_mode(path.parent))


def set_modes(path: Path, parent: Path) -> None:
    """Gives a new file, or a new folder and all that is in it, the modes that `parent` and the umask allow.

    Args:
        path (`Path`):
            The file or folder; links are not followed.
        parent (`Path`):
            The folder in which it is, or is moved to.
    """
    folder_mode, file_mode = new_folder_mode(parent), new_file_mode(parent)
    for root, folders, files in os.walk(path):
        for name in folders:
            os.chmod(os.path.join(root, name), folder_mode)
        for name in files:
            os.chmod(os.path.join(root, name), file_mode)
    os.chmod(path, folder_mode if path.is_dir() else file_mode)


def current_umask() -> int:
    """Returns the umask of this process."""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
            return next(int(line.split()[1], 8) for line in status if line.startswith("Umask:"))
    except (OSError, StopIteration):  # not Linux: it can only be read by setting it
        mask = os.umask(0o077)
        os.umask(mask)
        return mask
