"""A selection's files in a folder: written so that the folder always holds one whole selection, and read as such.

The files of a selection have fixed names and lie beside files of others, so that they cannot be exchanged together.
They are first written to a hidden folder within the folder, which is then renamed to `COMMITTED`: from this moment on
the new selection is the one that is read. Its files are then moved to their places. If the process dies meanwhile, the
rest is read from `COMMITTED`, and moved by the next process that writes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from itl_hf.disk.checks import check_writable_folder, foreign_names
from itl_hf.disk.file_modes import make_folder, set_modes
from itl_hf.disk.lock import lock_folder
from itl_hf.disk.temporary import remove_leftovers, temporary_path
from itl_hf.disk.whole_files import move_file, sync_folder, write_file
from itl_hf.embedding.store.atomic_files import DamagedError

#: The file that names the checksums of the others. It is moved last.
FACTS = "selection.json"
NUMBERS = "arrays.safetensors"
ROWS, TARGETS = "data/train-00000-of-00001.parquet", "targets.parquet"
#: All files of a selection.
FILES = (FACTS, NUMBERS, ROWS, TARGETS)
#: The folder in which the files of a whole selection wait until they are moved to their places.
COMMITTED = ".selection-committed"
#: Beginning of the names of the hidden folders that are being written.
_DRAFT = "selection"
#: Seconds to wait for another process that writes into the same folder.
_WAIT_SECONDS = 600.0
_REMEDY = "Select again with the same arguments, and --overwrite (in Python overwrite=True)"
#: How often a selection is read again that was replaced meanwhile.
_MOST_READINGS = 20


def holds_selection(folder: Path) -> bool:
    """Returns whether there is a selection in a folder."""
    return (folder / COMMITTED / FACTS).exists() or (folder / FACTS).exists()


def check_selection_folder(folder: Path, overwrite: bool, name: str = "the folder") -> None:
    """Checks that a selection can be written into a folder, before any work is done for it.

    Args:
        folder (`Path`):
            The folder.
        overwrite (`bool`):
            Whether a selection there may be replaced, and files of others may be there; they are kept.
        name (`str`, *optional*, defaults to `"the folder"`):
            What it is, for messages, such as `"--output_dir"`.

    Raises:
        `FileExistsError`: If the folder holds a selection or other files and `overwrite` is false, or other files have
            the names of a selection's files.
        `NotADirectoryError`: If a part of the path is a file.
        `PermissionError`: If nothing can be written there.
    """
    check_writable_folder(folder, name)
    if holds_selection(folder):
        _check_own_facts(folder)
        if not overwrite:
            complete_selection(folder)
            raise FileExistsError(
                f"{name} {folder} holds a selection already: choose another folder, or replace it (--overwrite, in "
                "Python overwrite=True); files that are not of a selection are kept"
            )
    else:
        _check_other_files(folder, overwrite, name)
    for file in FILES:
        if (folder / file).is_dir():
            raise FileExistsError(f"{folder / file} is a folder, where a file of the selection belongs; move it away")
        check_writable_folder((folder / file).parent, name)


def replace_selection(folder: Path, facts: Mapping[str, Any], contents: Mapping[str, bytes], overwrite: bool) -> None:
    """Writes the files of a selection. Whenever this ends, also by a kill, the old or the new selection is whole.

    The same selection is not written again. Processes that write into one folder wait for each other.

    Args:
        folder (`Path`):
            The folder; it is made if it does not exist.
        facts (`Mapping`):
            Content of `selection.json`, as JSON types.
        contents (`Mapping[str, bytes]`):
            Contents of the other files of `FILES`.
        overwrite (`bool`):
            See `check_selection_folder`.

    Raises:
        `FileExistsError`: See `check_selection_folder`.
        `OSError`: If the disk is full or cannot be written; what was there is still there.
    """
    checksums = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    facts = {**facts, "sha256": checksums}
    version = _version(facts)
    text = json.dumps({**facts, "version": version}, indent=2, ensure_ascii=False) + "\n"
    files = {**contents, FACTS: text.encode("utf-8", "backslashreplace")}  # JSON reads these escapes of surrogates
    check_writable_folder(folder)
    is_new = not folder.exists()
    make_folder(folder)
    try:
        with lock_folder(folder, "another process is writing a selection into this folder", _WAIT_SECONDS):
            remove_leftovers(folder, _DRAFT)
            _finish_commit(folder)
            if holds_selection(folder) and _is_intact(folder, version):
                return
            check_selection_folder(folder, overwrite)
            _commit(folder, files)
            _finish_commit(folder)
    except OSError:
        if is_new:  # it is left alone if another process wrote into it
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def complete_selection(folder: Path) -> None:
    """Moves the files to their places that a killed process has not moved, and deletes what it left.

    `read_selection` needs none of this; `datasets.load_dataset` and other programs do.
    """
    if not folder.is_dir():
        return
    # Another process that holds the lock does the same; what cannot be written stays as it is.
    with contextlib.suppress(OSError), lock_folder(folder, "another process is writing a selection into this folder"):
        remove_leftovers(folder, _DRAFT)
        _finish_commit(folder)


def read_selection(folder: Path) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Reads the files of one selection and compares their checksums; if it was replaced meanwhile, reads the new one.

    Returns:
        `tuple[dict, dict[str, bytes]]`: The content of `selection.json`, and of each other file by name.

    Raises:
        `FileNotFoundError`: If the folder holds no selection.
        `DamagedError`: If a file is damaged, absent, or of another selection; the message names it.
    """
    identity: object = None
    for _ in range(_MOST_READINGS):
        facts, last_identity, identity = _read_facts(folder), identity, _identity(folder)
        contents, error = _read_contents(folder, facts)
        if error is None:
            return facts, contents
        if identity == last_identity == _identity(folder):  # not replaced since the reading before this one
            raise error
    raise DamagedError(f"{folder} was replaced {_MOST_READINGS} times while it was read: read it when that has ended")


def _identity(folder: Path) -> object:
    """Returns what changes when `selection.json` is replaced, also by a file with the same content."""
    for path in (folder / COMMITTED / FACTS, folder / FACTS):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            status = path.stat()
            return status.st_ino, status.st_mtime_ns
    return None


def _read_facts(folder: Path) -> dict[str, Any]:
    text = _read(folder, FACTS)
    if text is None:
        raise FileNotFoundError(f"{folder} holds no selection (no {FACTS})")
    try:
        facts: dict[str, Any] = json.loads(text)
        is_intact = isinstance(facts, dict) and facts.pop("version", None) in (None, _version(facts))
        is_intact = is_intact and isinstance(facts.get("sha256", {}), dict)
    except (ValueError, RecursionError):
        is_intact = False
    if not is_intact:
        raise DamagedError(f"{folder / FACTS} is damaged: its content is not what was written. {_REMEDY}")
    return facts


def _read_contents(folder: Path, facts: Mapping[str, Any]) -> tuple[dict[str, bytes], DamagedError | None]:
    """Returns the files, or the error about the first one that is not what `facts` says."""
    contents: dict[str, bytes] = {}
    checksums = facts.get("sha256")
    for name in FILES[1:]:
        content = _read(folder, name)
        if content is None:
            return {}, DamagedError(f"{folder / name} is missing. {_REMEDY}")
        # Selections that were saved by the first versions have no checksums.
        if checksums is not None and hashlib.sha256(content).hexdigest() != checksums.get(name):
            return {}, DamagedError(
                f"{folder / name} is damaged or belongs to another selection: its checksum differs from the one in "
                f"{FACTS}. {_REMEDY}"
            )
        contents[name] = content
    return contents, None


def _read(folder: Path, name: str) -> bytes | None:
    """Returns the content of a file in `COMMITTED` or, once it was moved, at its place; `None` if there is none."""
    for path in (folder / COMMITTED / Path(name).name, folder / name):
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            return path.read_bytes()
    return None


def _commit(folder: Path, files: Mapping[str, bytes]) -> None:
    draft = temporary_path(folder, _DRAFT)
    try:
        draft.mkdir()
        for name, content in files.items():
            write_file(draft / Path(name).name, content)
        set_modes(draft, folder)
        sync_folder(draft)
        os.rename(draft, folder / COMMITTED)
        sync_folder(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _finish_commit(folder: Path) -> None:
    """Moves the files of `COMMITTED` to their places, `selection.json` last."""
    source_folder = folder / COMMITTED
    if not source_folder.exists():
        return
    for name in (*FILES[1:], FACTS):
        source = source_folder / Path(name).name
        if source.exists():
            move_file(source, folder / name)
            sync_folder((folder / name).parent)
    source_folder.rmdir()


def _check_own_facts(folder: Path) -> None:
    """Raises `FileExistsError` if `selection.json` is a file of something else."""
    try:
        facts = json.loads(_read(folder, FACTS) or b"")
    except (ValueError, RecursionError):
        facts = None
    if not isinstance(facts, dict) or "format_version" not in facts:
        raise FileExistsError(
            f"{folder / FACTS} is damaged, or is not of a selection: delete it, or choose another folder"
        )


def _check_other_files(folder: Path, overwrite: bool, name: str) -> None:
    names = [entry for entry in foreign_names(folder) if entry != COMMITTED]
    if names and not overwrite:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise FileExistsError(
            f"{name} {folder} holds no selection but other files ({', '.join(names[:3])}{more}): choose another "
            "folder, or write the selection beside them (--overwrite, in Python overwrite=True); they are kept"
        )
    foreign_files = [file for file in FILES if os.path.lexists(folder / file)]
    if foreign_files:
        raise FileExistsError(
            f"{folder / foreign_files[0]} is not of a selection, and would be replaced by one: move it away, or choose "
            "another folder"
        )


def _is_intact(folder: Path, version: str) -> bool:
    """Returns whether the selection in the folder is this one."""
    with contextlib.suppress(FileNotFoundError, DamagedError):
        return _version(read_selection(folder)[0]) == version
    return False


def _version(facts: Mapping[str, Any]) -> str:
    """Returns the id of a selection: a hash of its facts, and by their checksums of all its files."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
