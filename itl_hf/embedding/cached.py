"""`embed_cached`: embeds into the default cache, or into memory where the cache cannot be used.

Nobody asked for the cache, so that a disk that is full or read-only is no reason to fail: it is said once, and the
features stay in memory. On several processes all of them do the same: a folder that one of them cannot see or write to
is used by none.
"""

from __future__ import annotations

import os
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from itl_hf.disk.temporary import remove_leftovers, temporary_path
from itl_hf.embedding.embed import embed
from itl_hf.embedding.store.cache import is_finished
from itl_hf.failure_detection import OtherProcessFailed
from itl_hf.processes import Processes

if TYPE_CHECKING:
    import numpy as np

    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.embedding.store.cache import FeatureCache
    from itl_hf.embedding.store.stored_features import StoredFeatures
    from itl_hf.text import TextRows

#: Beginning of the name of a file by which processes find out whether they share the cache.
_PROBE = "probe"
#: How another process says that it failed with an `OSError`.
_DISK_ERROR = re.compile(
    r"process \d+( on \S+)? failed: (\w*OSError|\w*IOError|PermissionError|\w*FoundError|\w*ExistsError)\b"
)


def embed_cached(
    rows: TextRows, embedder: Embedder, cache: FeatureCache, directory: Path, **options: Any
) -> np.ndarray | StoredFeatures:
    """Embeds the rows that are not in the cache. Collective: all processes must call it.

    Args:
        rows (`TextRows`):
            The rows.
        embedder (`Embedder`):
            Computes the features.
        cache (`FeatureCache`):
            The cache.
        directory (`Path`):
            The folder of these features in it, from `FeatureCache.directory`.
        **options:
            Arguments of `embed`.

    Returns:
        `np.ndarray` or `StoredFeatures`: (N, d).
    """
    with Processes() as processes:
        is_stored = all(processes.call_and_gather(lambda: is_finished(directory)))
        obstacle = None if is_stored else _find_obstacle(cache, directory, processes)
        is_first = processes.rank == 0
    if obstacle is None:
        try:
            features: np.ndarray | StoredFeatures = embed(rows, embedder, directory, **options)
        except (OSError, OtherProcessFailed) as error:
            if isinstance(error, OtherProcessFailed) and not _DISK_ERROR.match(str(error)):
                raise
            obstacle = str(error)
        else:
            if is_first:
                cache.note_use(directory)
                if not is_stored:
                    cache.note_written(directory)
            return features
    if is_first:
        _warn_once(cache.folder, obstacle)
    in_memory: np.ndarray = embed(rows, embedder, None, **options)
    return in_memory


def _find_obstacle(cache: FeatureCache, directory: Path, processes: Processes) -> str | None:
    """Returns why the cache cannot be written to by all processes, the same text on each; `None` if it can."""
    probe = temporary_path(cache.folder, _PROBE)

    def make() -> tuple[str, str | None]:
        if processes.rank != 0:
            return "", None
        try:
            cache.prepare(directory)
            remove_leftovers(cache.folder, _PROBE)
            probe.touch()
        except OSError as error:
            return "", str(error)
        return probe.name, None

    name, obstacle = processes.call_and_gather(make)[0]
    if obstacle is not None:
        return obstacle
    try:
        can_write = processes.call_and_gather(lambda: _can_write(cache.folder / name, directory))
    finally:
        if processes.rank == 0:
            probe.unlink(missing_ok=True)
    return None if all(can_write) else "it is not a folder that all processes share and can write to"


def _can_write(probe: Path, directory: Path) -> bool:
    return probe.exists() and os.access(directory, os.W_OK | os.X_OK)


_folders_with_warning: set[Path] = set()


def _warn_once(folder: Path, obstacle: str) -> None:
    if folder in _folders_with_warning:
        return
    _folders_with_warning.add(folder)
    warnings.warn(
        f"features cannot be kept in {folder}: {obstacle}. They stay in memory, and are computed again next time. Set "
        "ITL_HF_CACHE or store= to another folder, or store=False for none.",
        stacklevel=6,
    )
