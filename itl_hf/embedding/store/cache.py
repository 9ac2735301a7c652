"""The default cache: a folder of the user's account that keeps features where no `store=` was given.

It is `ITL_HF_CACHE`, or `itl_hf` in the folder of Hugging Face (`HF_HOME`). It holds one feature store for each pair of
an embedder's fingerprint and a hash of rows, and the numbers of tokens of rows: numbers and hashes, no text. Only the
user can read it (mode 0700).
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from huggingface_hub import constants
from tqdm.auto import tqdm

from itl_hf.disk.checks import foreign_names
from itl_hf.disk.lock import empty_folder
from itl_hf.embedding.cache_identity import cache_identity
from itl_hf.embedding.progress import progress_bars_enabled
from itl_hf.embedding.store.atomic_files import lock_for_writing
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.manifest import MANIFEST_NAME, Manifest
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.embedding.store.sizes import folder_bytes, size
from itl_hf.embedding.store.token_counts import COUNTS_FOLDER, num_rows_kept

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder, Fingerprint

VARIABLE = "ITL_HF_CACHE"
#: Names of `feature_directory`, and of the folder of token counts. Nothing else is ever deleted.
_ENTRY_NAME = re.compile(rf"[0-9a-f]{{16}}|{COUNTS_FOLDER}")
_PRIVATE = 0o700
SECONDS_PER_DAY = 86_400


def default_cache_folder() -> Path:
    """Returns the folder of the default cache: `ITL_HF_CACHE` in the environment, or `itl_hf` in `HF_HOME`."""
    folder = os.environ.get(VARIABLE)
    return Path(folder).expanduser() if folder else Path(constants.HF_HOME) / "itl_hf"


@dataclass(frozen=True)
class CacheEntry:
    """The features of one dataset by one embedder.

    Args:
        directory (`Path`):
            The feature store.
        num_bytes (`int`):
            Its size on the disk.
        rows (`int`, *optional*):
            Rows of the dataset; `None` if the manifest cannot be read.
        model (`str`):
            Name of the model, or of the kind of embedder.
        last_use (`float`):
            When the features were last written or read, in seconds since 1970.
        is_finished (`bool`):
            Whether all rows are embedded.
    """

    directory: Path
    num_bytes: int
    rows: int | None
    model: str
    last_use: float
    is_finished: bool

    @classmethod
    def read(cls, directory: Path) -> CacheEntry:
        """Reads what the list shows of a folder."""
        if directory.name == COUNTS_FOLDER:
            num_rows, last_use = num_rows_kept(directory), directory.stat().st_mtime
            return cls(directory, folder_bytes(directory), num_rows, "token counts", last_use, True)
        try:
            manifest = Manifest.read(directory)
            fingerprint = manifest.fingerprint
            model = str(fingerprint.get("model") or fingerprint.get("part0.model") or fingerprint.get("embedder", ""))
            rows, last_use = manifest.rows, (directory / MANIFEST_NAME).stat().st_mtime
        except (OSError, ValueError):
            model, rows, last_use = "unreadable", None, directory.stat().st_mtime
        return cls(directory, folder_bytes(directory), rows, model, last_use, is_finished(directory))


class FeatureCache:
    """Keeps features in the default cache.

    Args:
        folder (`Path`, *optional*):
            Left out: `default_cache_folder()`.

    Example:
        >>> import tempfile
        >>> cache = FeatureCache(Path(tempfile.mkdtemp()) / "itl_hf")
        >>> cache.entries()
        []
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_cache_folder() if folder is None else folder
        self._new_bytes = 0

    def directory(self, embedder: Embedder, fingerprint: Fingerprint, rows_hash: str) -> Path | None:
        """Returns the folder for these features; `None` if they must not be kept (see `cache_identity`)."""
        identity = cache_identity(embedder, fingerprint)
        return None if identity is None else feature_directory(self.folder, identity, rows_hash)

    def counts_folder(self, embedder: Embedder) -> Path | None:
        """Returns the folder of token counts, and notes its use; `None` if nothing of this embedder may be kept."""
        if cache_identity(embedder, {}) is None:
            return None
        folder = self.folder / COUNTS_FOLDER
        with contextlib.suppress(OSError):  # a read-only cache can be read
            self._make_folder()
            folder.mkdir(exist_ok=True, mode=_PRIVATE)
            os.utime(folder)
        return folder

    def prepare(self, directory: Path) -> None:
        """Makes the folder of an entry, readable by the user alone; removes one that cannot be used.

        Raises:
            `OSError`: If the folder cannot be made or written to.
        """
        self._make_folder()
        if directory.exists() and not _is_store(directory):
            # Another run that is creating a store there holds the lock until it is one.
            with contextlib.suppress(BlockingIOError), lock_for_writing(directory):
                if not _is_store(directory):
                    empty_folder(directory)
        directory.mkdir(exist_ok=True, mode=_PRIVATE)

    def _make_folder(self) -> None:
        if not self.folder.exists():
            self.folder.mkdir(parents=True, exist_ok=True, mode=_PRIVATE)
            self.folder.chmod(_PRIVATE)  # whatever the umask

    def entries(self) -> list[CacheEntry]:
        """Returns what the cache holds, the most recently used first."""
        if not self.folder.is_dir():
            return []
        folders = [path for path in self.folder.iterdir() if _ENTRY_NAME.fullmatch(path.name) and path.is_dir()]
        entries = []
        for folder in folders:
            with contextlib.suppress(FileNotFoundError):  # another process has just deleted it
                entries.append(CacheEntry.read(folder))
        return sorted(entries, key=lambda entry: -entry.last_use)

    def clear(self, older_than_days: float = 0.0) -> tuple[list[CacheEntry], list[CacheEntry]]:
        """Deletes the entries that were not used for so many days.

        Args:
            older_than_days (`float`, *optional*, defaults to 0.0):
                Days since the last use; 0 deletes all.

        Returns:
            `tuple`: The entries that were deleted, and those that another run is writing to, which are left.
        """
        removals, busy = [], []
        for entry in self.entries_older_than(older_than_days):
            try:
                with lock_for_writing(entry.directory):
                    empty_folder(entry.directory)
                with contextlib.suppress(OSError):  # another run has just begun to write there
                    entry.directory.rmdir()
                removals.append(entry)
            except BlockingIOError:
                busy.append(entry)
        return removals, busy

    def entries_older_than(self, days: float) -> list[CacheEntry]:
        """Returns the entries that were not used for so many days; 0 for all."""
        limit = time.time() - days * SECONDS_PER_DAY
        return [entry for entry in self.entries() if days <= 0 or entry.last_use < limit]

    def note_use(self, directory: Path) -> None:
        """Records the time at which an entry was used."""
        with contextlib.suppress(OSError):  # a read-only cache can be read
            os.utime(directory / MANIFEST_NAME)

    def note_written(self, directory: Path) -> None:
        """Counts the bytes of a new entry, for `report`."""
        self._new_bytes += folder_bytes(directory)

    def report(self) -> None:
        """Says how much was written since the last report, and how large the cache is; nothing if nothing was."""
        new_bytes, self._new_bytes = self._new_bytes, 0
        if new_bytes and progress_bars_enabled():
            tqdm.write(
                f"{size(new_bytes)} of features kept in {self.folder} ({size(folder_bytes(self.folder))} in all). "
                "`itl-hf cache list` shows them, `itl-hf cache clear` deletes them, store=False keeps none.",
                file=sys.stderr,
            )


def is_finished(directory: Path) -> bool:
    """Returns whether a folder is a feature store with all of its shards; their checksums are not compared."""
    try:
        FeatureStore.open(directory)
    except (OSError, ValueError):
        return False
    return True


def _is_store(directory: Path) -> bool:
    """Returns whether the folder is empty, or has a manifest that can be read."""
    try:
        Manifest.read(directory)
    except FileNotFoundError:
        return not foreign_names(directory)
    except ValueError:
        return False
    return True
