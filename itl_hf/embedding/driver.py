"""Divides embedding among processes: into a store, from a stream into a store, or into memory.

All rows are read once before the model runs, for three reasons: a row that cannot be embedded raises an error within
seconds, equal rows are found, and the hash of the rows identifies what the stored features belong to. Process 0 lists
the missing shards. Each process embeds every `size`-th of them independently, where `size` is the number of processes.
If a process is killed, only the shard that it was embedding is lost.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.embedding.progress import Progress
from itl_hf.embedding.row_keys import RowKeys, distinct_rows, read_keys
from itl_hf.embedding.store.atomic_files import lock_for_writing
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.manifest import MANIFEST_NAME
from itl_hf.embedding.store.shared_folder import require_shared
from itl_hf.embedding.store.stored_features import StoredFeatures
from itl_hf.embedding.stream import StreamReader
from itl_hf.embedding.work import EmbeddedShard, ShardTask, embed_shards

if TYPE_CHECKING:
    from datasets import IterableDataset

    from itl_hf.embedding.embedders.base import Embedder, Fingerprint
    from itl_hf.processes import Processes
    from itl_hf.text import TextRows


#: Seconds for which a run waits until another one that embeds into the same directory has ended.
LONGEST_WAIT_SECONDS = math.inf
_WAIT_SECONDS_OF_SEVERAL = 300.0


@dataclass(frozen=True)
class EmbedSettings:
    """The arguments of `embed` except the rows.

    Args:
        embedder (`Embedder`):
            Computes the features.
        shard_rows (`int`):
            Number of rows in a shard.
        description (`str`):
            Label of the progress bar.
        dtype (`str`):
            `"float32"` or `"float16"`: the type that features are stored in.
        known_fingerprint (`dict`, *optional*):
            The embedder's fingerprint, if the caller passed it.
    """

    embedder: Embedder
    shard_rows: int
    description: str
    dtype: str
    known_fingerprint: Fingerprint | None


def embed_into_store(
    rows: TextRows, directory: Path, settings: EmbedSettings, rows_hash: str | RowKeys | None, processes: Processes
) -> StoredFeatures:
    """Embeds the rows that are not in the store in `directory`. Collective: all processes must call it."""
    keys = rows_hash if isinstance(rows_hash, RowKeys) else None
    expected_hash = rows_hash.hash if isinstance(rows_hash, RowKeys) else rows_hash
    dataset_facts = {"rows": len(rows), "columns": sorted(rows.column_names), "hash": expected_hash}
    fingerprint = _common_fingerprint(settings, processes, dataset_facts)
    if keys is None:
        needs_keys = processes.call_and_gather(lambda: expected_hash is None or FeatureStore.requires_index(directory))
        if needs_keys[0]:  # the answer of process 0, so that all processes do the same
            keys = _read_all_keys(rows, settings.embedder, expected_hash, processes)
    identity = {**fingerprint, "rows_hash": expected_hash if keys is None else keys.hash}
    index = None if keys is None else keys.index()
    store = _open_store(directory, identity, settings, processes, len(rows), index)
    with contextlib.ExitStack() as stack:

        def list_missing() -> list[int]:
            missing = store.missing() if processes.rank == 0 else []
            if missing:  # keeps other runs out until all of these are written
                absent = set(missing) - store.shard_numbers()
                stack.enter_context(lock_for_writing(store.directory, _wait_seconds(processes)))
                if absent & store.shard_numbers():  # another run wrote them meanwhile
                    missing = store.missing()
            return missing

        missing = processes.call_and_gather(list_missing)[0]
        if missing:  # before any of them is embedded
            require_shared(store.directory, processes)
        _embed_missing(missing, rows, store, settings, processes)
    processes.call_and_gather(lambda: store.mark_intact(range(store.num_shards)))
    return store.features()


def _wait_seconds(processes: Processes) -> float:
    """How long to wait for another run: the other processes of this one would give up after some minutes."""
    return LONGEST_WAIT_SECONDS if processes.size == 1 else min(LONGEST_WAIT_SECONDS, _WAIT_SECONDS_OF_SEVERAL)


def _embed_missing(
    missing: list[int], rows: TextRows, store: FeatureStore, settings: EmbedSettings, processes: Processes
) -> None:
    ranges = [store.row_range(shard) for shard in missing]
    files = [(store.path(shard), end - first) for shard, (first, end) in zip(missing, ranges, strict=True)]
    stored_rows = store.stored_rows - sum(num_rows for _, num_rows in files)
    other_files = [files[other :: processes.size] for other in range(1, processes.size)]

    def tasks() -> Iterator[ShardTask]:
        for i in range(processes.rank, len(missing), processes.size):
            row_numbers = store.row_numbers(*ranges[i])
            yield ShardTask(missing[i], row_numbers, rows.read(row_numbers))

    def save(task: ShardTask, shard: EmbeddedShard) -> None:
        store.write(task.shard, shard.features, shard.columns)

    with Progress(settings.description, store.stored_rows, stored_rows, processes.rank == 0, other_files) as progress:
        processes.call_and_gather(
            lambda: embed_shards(tasks(), settings.embedder, settings.dtype, save, progress, processes)
        )


def embed_stream_into_store(
    stream: IterableDataset, directory: Path, settings: EmbedSettings, processes: Processes
) -> StoredFeatures:
    """Embeds the rows of a stream that are not in the store in `directory`. Collective: all processes must call it."""
    fingerprint = _common_fingerprint(settings, processes, {"columns": stream.column_names})
    store = _open_store(directory, fingerprint, settings, processes, rows=None)

    def save(task: ShardTask, shard: EmbeddedShard) -> None:
        store.write(task.shard, shard.features, shard.columns, rows_hash=task.rows_hash)

    # The shards of other processes are not known in advance, so the bar counts those of the first process only.
    label = settings.description + (f" (process 1 of {processes.size})" if processes.size > 1 else "")
    with contextlib.ExitStack() as stack:

        def lock_if_unfinished() -> None:
            if store.rows is None and processes.rank == 0:
                stack.enter_context(lock_for_writing(store.directory, _wait_seconds(processes)))

        processes.call_and_gather(lock_if_unfinished)
        if processes.call_and_gather(lambda: store.rows is None)[0]:
            require_shared(store.directory, processes)
        processes.call_and_gather(store.reload)  # another run may have finished it meanwhile
        with Progress(label, None, 0, processes.rank == 0) as progress:
            reader = StreamReader(stream, store, settings.embedder, processes, progress.add_stored_rows)
            processes.call_and_gather(
                lambda: embed_shards(reader.tasks(), settings.embedder, settings.dtype, save, progress, processes)
            )
        counts = processes.call_and_gather(lambda: reader.num_rows)
        if len(set(counts)) > 1:
            raise ValueError(
                f"the stream gave processes different numbers of rows, {counts}: it must give all rows to each."
            )
        processes.call_and_gather(lambda: store.finish(reader.num_rows) if processes.rank == 0 else None)
    store.reload()
    processes.call_and_gather(lambda: store.mark_intact(range(store.num_shards)))
    return store.features()


def embed_in_memory(
    rows: TextRows, settings: EmbedSettings, rows_hash: str | RowKeys | None, processes: Processes
) -> np.ndarray:
    """Embeds all rows and returns all features on every process. Collective: all processes must call it."""
    expected_hash = rows_hash.hash if isinstance(rows_hash, RowKeys) else rows_hash
    _require_same_arguments(settings, processes, {"rows": len(rows), "hash": expected_hash})
    if isinstance(rows_hash, RowKeys):
        index = rows_hash.index()
    else:
        index = _read_all_keys(rows, settings.embedder, expected_hash, processes).index()
    row_numbers = distinct_rows(index, len(rows))  # (M,)
    starts = range(0, len(row_numbers), settings.shard_rows)
    shards: dict[int, np.ndarray] = {}

    def tasks() -> Iterator[ShardTask]:
        for shard in range(processes.rank, len(starts), processes.size):
            shard_rows = row_numbers[starts[shard] : starts[shard] + settings.shard_rows]
            yield ShardTask(shard, shard_rows, rows.read(shard_rows))

    def save(task: ShardTask, shard: EmbeddedShard) -> None:
        shards[task.shard] = shard.features

    with Progress(settings.description, len(row_numbers), 0, processes.rank == 0) as progress:
        processes.call_and_gather(
            lambda: embed_shards(tasks(), settings.embedder, settings.dtype, save, progress, processes)
        )
    features = np.empty((len(row_numbers), settings.embedder.dimension), dtype=settings.dtype)  # (M, d)
    for first in range(0, len(starts), processes.size):  # gathers one shard of each process at a time
        own_part = shards.pop(first + processes.rank, None)
        parts = processes.call_and_gather(lambda part=own_part: part)  # type: ignore[misc]
        for start, part in zip(starts[first:], parts, strict=False):
            features[start : start + settings.shard_rows] = part
    return features if index is None else features[index]


def _open_store(
    directory: Path,
    identity: Fingerprint,
    settings: EmbedSettings,
    processes: Processes,
    rows: int | None,
    index: np.ndarray | None = None,
) -> FeatureStore:
    """Opens the store on every process; process 0 does so first and creates it if there is none."""
    stores: list[FeatureStore] = []

    def open_store() -> None:
        store = FeatureStore(
            directory,
            identity,
            rows=rows,
            dimension=settings.embedder.dimension,
            shard_rows=settings.shard_rows,
            dtype=settings.dtype,
            index=index,
        )
        stores.append(store)

    processes.call_and_gather(lambda: open_store() if processes.rank == 0 else None)
    if not all(processes.call_and_gather((directory / MANIFEST_NAME).exists)):
        require_shared(directory, processes)  # the others must not make a store of their own
    processes.call_and_gather(lambda: open_store() if processes.rank != 0 else None)
    return stores[0]


def _read_all_keys(rows: TextRows, embedder: Embedder, expected_hash: str | None, processes: Processes) -> RowKeys:
    """Returns the keys of all rows; each process reads a part of them, and checks it if there is no `expected_hash`."""
    first, end = (len(rows) * number // processes.size for number in (processes.rank, processes.rank + 1))
    checker = embedder if expected_hash is None else None
    keys = RowKeys(
        rows.column_names, np.concatenate(processes.call_and_gather(lambda: read_keys(rows, checker, first, end)))
    )
    if expected_hash is not None and keys.hash != expected_hash:
        raise ValueError("rows_hash is that of other rows: leave it out, or call rows_fingerprint on this dataset.")
    return keys


def _common_fingerprint(settings: EmbedSettings, processes: Processes, dataset_facts: dict[str, Any]) -> Fingerprint:
    """Returns the embedder's fingerprint after checking that all processes have the same one and equal arguments."""
    argument = settings.known_fingerprint
    fingerprints = processes.call_and_gather(
        lambda: settings.embedder.fingerprint() if argument is None else dict(argument)
    )
    fingerprint = fingerprints[processes.rank]
    facts = {f"dataset: {name}": value for name, value in dataset_facts.items()}
    _require_same_arguments(settings, processes, {**fingerprint, **facts})
    return fingerprint


def _require_same_arguments(settings: EmbedSettings, processes: Processes, arguments: dict[str, Any]) -> None:
    """Raises `ValueError` if `arguments`, or the settings, differ between processes."""
    first, *others = processes.call_and_gather(
        lambda: {
            **arguments,
            "shard_rows": settings.shard_rows,
            "store's dtype": settings.dtype,
            "dimension": settings.embedder.dimension,
        }
    )
    for number, other in enumerate(others, 1):
        differing = [key for key in {**first, **other} if first.get(key) != other.get(key)]
        if differing:
            key = differing[0]
            raise ValueError(
                f"process {number} was called with other arguments than process 0: {key} is {other.get(key)!r} there "
                f"and {first.get(key)!r} here. All processes must embed the same rows with the same model."
            )
