"""Checks on paths that will be written, to be made before any work is done for them."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from itl_hf.disk.temporary import is_temporary


def expand(path: str | os.PathLike[str]) -> Path:
    """Returns the path with `~` replaced by the home folder, as a shell does.

    Example:
        >>> expand("~").is_absolute()
        True
    """
    return Path(path).expanduser()


def check_writable_folder(folder: Path, name: str = "the folder") -> None:
    """Checks that files can be made in a folder, or that the folder itself can be made. Nothing is left behind.

    Args:
        folder (`Path`):
            The folder.
        name (`str`, *optional*, defaults to `"the folder"`):
            What it is, for messages, such as `"--store"`.

    Raises:
        `NotADirectoryError`: If a part of the path is a file.
        `PermissionError`: If nothing can be written there.
    """
    existing = _nearest_existing(folder, name)
    if not existing.is_dir():
        raise NotADirectoryError(f"{name} {folder}: {existing} is a file, not a folder; choose another path")
    try:
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise PermissionError(
            f"{name} {folder}: nothing can be written in {existing} ({error.strerror or error}); choose another path"
        ) from error


def check_output_file(path: Path, name: str = "the file") -> None:
    """Checks that a file can be written; an existing file may be replaced.

    Args:
        path (`Path`):
            The file.
        name (`str`, *optional*, defaults to `"the file"`):
            What it is, for messages, such as `"--report"`.

    Raises:
        `IsADirectoryError`: If it is a folder.
        `NotADirectoryError`: If a part of the path is a file.
        `PermissionError`: If nothing can be written there.
    """
    destination = Path(os.path.realpath(path))
    if destination.is_dir():
        raise IsADirectoryError(f"{name} {path} is a folder: give the name of a file, such as {path / 'report.html'}")
    check_writable_folder(destination.parent, name)


def check_new_folder(target: Path, name: str = "the folder") -> None:
    """Checks that a folder can be made, or is empty.

    Args:
        target (`Path`):
            The folder.
        name (`str`, *optional*, defaults to `"the folder"`):
            What it is, for messages, such as `"--preview"`.

    Raises:
        `FileExistsError`: If it is not empty, or the working directory, which cannot be replaced.
        `NotADirectoryError`: If a part of the path is a file.
        `PermissionError`: If nothing can be written there.
    """
    check_writable_folder(target, name)
    names = foreign_names(target)
    if names:
        raise FileExistsError(f"{name} {target} is not empty ({', '.join(names[:3])}); choose another folder")
    if target.exists() and target.samefile(Path.cwd()):
        raise FileExistsError(f"{name} {target} is the working directory; choose a folder in it")
    check_writable_folder(Path(os.path.realpath(target)).parent, name)


def foreign_names(folder: Path) -> list[str]:
    """Returns the names in a folder, without temporary files of this package; none if there is no such folder."""
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in os.scandir(folder) if not is_temporary(entry.name))


def _nearest_existing(path: Path, name: str) -> Path:
    if "\0" in str(path):
        raise ValueError(f"{name}: a name of a file cannot hold the character NUL")
    path = Path(os.path.realpath(path))
    try:
        path.exists()
    except OSError as error:  # such as a name that is too long
        raise ValueError(f"{name} {str(path)[:80]!r}: {error.strerror}: give another name") from None
    while not path.exists() and path != path.parent:
        path = path.parent
    return path
