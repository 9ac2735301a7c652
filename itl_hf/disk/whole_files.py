"""Writes files and folders that appear whole or not at all; links are followed and kept."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from itl_hf.disk.checks import check_new_folder
from itl_hf.disk.file_modes import make_folder, set_modes
from itl_hf.disk.temporary import remove, remove_leftovers, temporary_path


def write_file(path: Path, content: bytes) -> None:
    """Writes a new file and waits until it is on the disk.

    Raises:
        `FileExistsError`: If the file exists.
        `OSError`: If the disk is full; the error names the file.
    """
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_whole_file(path: Path, content: bytes) -> None:
    """Writes a file; an existing one is replaced at once, and stays as it was if the writing fails.

    Args:
        path (`Path`):
            The file. Where it is a link, the file that it leads to is replaced. Missing folders are made.
        content (`bytes`):
            What to write.
    """
    destination = Path(os.path.realpath(path))
    make_folder(destination.parent)
    remove_leftovers(destination.parent, destination.name)
    draft = temporary_path(destination.parent, destination.name)
    try:
        write_file(draft, content)
        set_modes(draft, destination.parent)
        with contextlib.suppress(FileNotFoundError):
            draft.chmod(stat.S_IMODE(destination.stat().st_mode))
        os.replace(draft, destination)
        sync_folder(destination.parent)
    finally:
        remove(draft)


def move_file(source: Path, path: Path) -> None:
    """Moves a file to `path`, over a file there. At every moment one of the two paths holds the whole file.

    Args:
        source (`Path`):
            The file.
        path (`Path`):
            Its new path. Links in it are followed, also to another disk.
    """
    destination = Path(os.path.realpath(path))
    make_folder(destination.parent)
    try:
        os.replace(source, destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        write_whole_file(destination, source.read_bytes())
        source.unlink()


def sync_folder(folder: Path) -> None:
    """Waits until the names of the files in a folder are on the disk; not every system can open folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """Context of a folder to be filled, which gets the name `target` at the end, and is deleted after an error.

    Args:
        target (`Path`):
            A folder that is empty or does not exist yet, or a link to such a folder.

    Raises:
        `FileExistsError`: If it is not empty, or the working directory.
    """
    check_new_folder(target)
    destination = Path(os.path.realpath(target))
    make_folder(destination.parent)
    remove_leftovers(destination.parent, destination.name)
    draft = temporary_path(destination.parent, destination.name)
    try:
        draft.mkdir()
        yield draft
        set_modes(draft, destination.parent)
        if os.name == "nt" and destination.exists():  # elsewhere an empty folder is replaced at once
            destination.rmdir()
        os.rename(draft, destination)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
