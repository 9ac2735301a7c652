"""How the work of embedding is shared among processes, and begins and ends.

All rows are read once before the model runs: a bad row far down fails in seconds, equal rows are found, and their hash
ties the stored features to these very rows. The first process says which shards are missing; each process takes every
so-manieth of them and works alone until it is done. A kill costs the shards in flight, one a process.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.embedding.progress import Progress
from itl_hf.embedding.row_keys import RowKeys, read_keys, read_rows
from itl_hf.embedding.store.atomic_files import only_writer, remove_temporary
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.stored_features import StoredFeatures
from itl_hf.embedding.stream import StreamReader
from itl_hf.embedding.work import Made, Task, run

if TYPE_CHECKING:
    from datasets import Dataset, IterableDataset

    from itl_hf.distributed import Processes
    from itl_hf.embedding.embedders.base import Embedder, Fingerprint


@dataclass(frozen=True)
class Settings:
    """What `embed` was called with, beside the rows; its docstring says what they are."""

    embedder: Embedder
    shard_rows: int
    description: str
    dtype: str
    known_fingerprint: Fingerprint | None

    def facts(self) -> dict[str, Any]:
        """What must be the same on all processes."""
        return {"shard_rows": self.shard_rows, "store's dtype": self.dtype, "dimension": self.embedder.dimension}

    def fingerprint(self) -> Fingerprint:
        """The embedder's; costly, to be called once."""
        return self.embedder.fingerprint() if self.known_fingerprint is None else dict(self.known_fingerprint)


def into_store(
    rows: Dataset, directory: Path, settings: Settings, rows_hash: str | RowKeys | None, processes: Processes
) -> StoredFeatures:
    """Embed what the store in `directory` lacks."""
    given = rows_hash.hash if isinstance(rows_hash, RowKeys) else rows_hash
    fingerprint = _agreed_fingerprint(
        settings, processes, {"rows": len(rows), "columns": sorted(rows.column_names), "hash": given}
    )
    keys = rows_hash if isinstance(rows_hash, RowKeys) else None
    if keys is None and processes.together(lambda: given is None or not FeatureStore.knows_rows(directory))[0]:
        keys = _keys(rows, settings.embedder, given is None, processes)
    digest = _checked_hash(given, keys)
    index = None if keys is None else keys.index()

    def open_store() -> FeatureStore:
        return FeatureStore(
            directory,
            {**fingerprint, "rows_hash": digest},
            rows=len(rows),
            dimension=settings.embedder.dimension,
            shard_rows=settings.shard_rows,
            dtype=settings.dtype,
            index=index,
        )

    store = _opened(open_store, processes)
    _fill(rows, store, settings, processes)
    return store.features()


def _fill(rows: Dataset, store: FeatureStore, settings: Settings, processes: Processes) -> None:
    with contextlib.ExitStack() as stack:
        missing = processes.together(lambda: _survey(store, stack) if processes.rank == 0 else [])[0]
        files = [(store.path(shard), store.height(shard)) for shard in missing]
        done = store.stored_rows - sum(height for _, height in files)
        elsewhere = [files[other :: processes.size] for other in range(1, processes.size)]

        def tasks() -> Iterator[Task]:
            for shard in missing[processes.rank :: processes.size]:
                numbers = store.row_numbers(*store.row_range(shard))
                yield Task(shard, numbers, read_rows(rows, numbers))

        def save(task: Task, made: Made) -> None:
            store.write(task.shard, made.features, made.columns)

        with Progress(settings.description, store.stored_rows, done, processes.rank == 0, elsewhere) as progress:
            processes.together(lambda: run(tasks(), settings.embedder, settings.dtype, save, progress, processes))
    processes.together(lambda: store.trust(range(store.num_shards)))


def _survey(store: FeatureStore, stack: contextlib.ExitStack) -> list[int]:
    """What is to be done; if there is anything, other runs are kept out until `stack` ends."""
    missing = store.missing()
    if missing:
        _claim(store, stack)
    return missing


def _claim(store: FeatureStore, stack: contextlib.ExitStack) -> None:
    stack.enter_context(only_writer(store.directory))
    remove_temporary(store.directory)


def stream_into_store(
    stream: IterableDataset, directory: Path, settings: Settings, processes: Processes
) -> StoredFeatures:
    """Embed what the store lacks of a stream."""
    fingerprint = _agreed_fingerprint(settings, processes, {"columns": stream.column_names})

    def open_store() -> FeatureStore:
        return FeatureStore(
            directory,
            fingerprint,
            rows=None,
            dimension=settings.embedder.dimension,
            shard_rows=settings.shard_rows,
            dtype=settings.dtype,
        )

    store = _opened(open_store, processes)
    _fill_from_stream(stream, store, settings, processes)
    return store.features()


def _fill_from_stream(stream: IterableDataset, store: FeatureStore, settings: Settings, processes: Processes) -> None:
    def save(task: Task, made: Made) -> None:
        store.write(task.shard, made.features, made.columns, rows_hash=task.rows_hash)

    # Which shards others have is not known beforehand: the bar is that of the first process.
    label = settings.description + (f" (process 1 of {processes.size})" if processes.size > 1 else "")
    with contextlib.ExitStack() as stack:
        unfinished = store.rows is None
        processes.together(lambda: _claim(store, stack) if unfinished and processes.rank == 0 else None)
        with Progress(label, None, 0, processes.rank == 0) as progress:
            share = processes.rank, processes.size
            reader = StreamReader(stream, store, settings.embedder, share, progress.found)
            tasks = reader.tasks()
            processes.together(lambda: run(tasks, settings.embedder, settings.dtype, save, progress, processes))
        counts = processes.together(lambda: reader.rows)
        if len(set(counts)) > 1:
            raise ValueError(
                f"the stream gave processes different numbers of rows, {counts}: it must give all rows to each."
            )
        processes.together(lambda: store.finish(reader.rows) if processes.rank == 0 else None)
    store.reload()
    processes.together(lambda: store.trust(range(store.num_shards)))


def in_memory(rows: Dataset, settings: Settings, rows_hash: str | RowKeys | None, processes: Processes) -> np.ndarray:
    """Embed all; every process ends with all features."""
    given = rows_hash.hash if isinstance(rows_hash, RowKeys) else rows_hash
    _agree(processes, lambda: {"rows": len(rows), "hash": given, **settings.facts()})
    known = rows_hash if isinstance(rows_hash, RowKeys) else None
    keys = known or _keys(rows, settings.embedder, given is None, processes)
    _checked_hash(given, keys)
    index, size = keys.index(), settings.shard_rows
    numbers = np.arange(len(rows)) if index is None else np.unique(index, return_index=True)[1]  # (M,)
    starts = range(0, len(numbers), size)
    made: dict[int, np.ndarray] = {}

    def tasks() -> Iterator[Task]:
        for shard in range(processes.rank, len(starts), processes.size):
            chosen = numbers[starts[shard] : starts[shard] + size]
            yield Task(shard, chosen, read_rows(rows, chosen))

    def save(task: Task, done: Made) -> None:
        made[task.shard] = done.features

    with Progress(settings.description, len(numbers), 0, processes.rank == 0) as progress:
        processes.together(lambda: run(tasks(), settings.embedder, settings.dtype, save, progress, processes))
    features = np.empty((len(numbers), settings.embedder.dimension), dtype=settings.dtype)  # (M, d)
    for first in range(0, len(starts), processes.size):  # one shard of each process at a time
        mine = made.pop(first + processes.rank, None)
        for start, part in zip(starts[first:], processes.together(lambda part=mine: part), strict=False):  # type: ignore[misc]
            features[start : start + size] = part
    return features if index is None else features[index]


def _opened(open_store: Callable[[], FeatureStore], processes: Processes) -> FeatureStore:
    """The store on every process, made by the first."""
    stores: list[FeatureStore] = []
    processes.together(lambda: stores.append(open_store()) if processes.rank == 0 else None)
    processes.together(lambda: stores.append(open_store()) if processes.rank != 0 else None)
    return stores[0]


def _keys(rows: Dataset, embedder: Embedder, check: bool, processes: Processes) -> RowKeys:
    """Keys of all rows; each process reads and checks its part of them."""
    first, end = (len(rows) * number // processes.size for number in (processes.rank, processes.rank + 1))
    parts = processes.together(lambda: read_keys(rows, embedder if check else None, first, end))
    return RowKeys(rows.column_names, np.concatenate(parts))


def _checked_hash(given: str | None, keys: RowKeys | None) -> str | None:
    if keys is None or given is None:
        return given if keys is None else keys.hash
    if keys.hash != given:
        raise ValueError("rows_hash is that of other rows: leave it out, or call rows_fingerprint on this dataset.")
    return given


def _agreed_fingerprint(settings: Settings, processes: Processes, facts: dict[str, Any]) -> Fingerprint:
    """The fingerprint, when all processes have said that they mean the same work."""
    fingerprint: list[Fingerprint] = []

    def said() -> dict[str, Any]:
        fingerprint.append(settings.fingerprint())
        return {**fingerprint[0], **{f"dataset: {name}": value for name, value in facts.items()}, **settings.facts()}

    _agree(processes, said)
    return fingerprint[0]


def _agree(processes: Processes, said: Callable[[], dict[str, Any]]) -> None:
    first, *others = processes.together(said)
    for number, other in enumerate(others, 1):
        differing = [key for key in {**first, **other} if first.get(key) != other.get(key)]
        if differing:
            key = differing[0]
            raise ValueError(
                f"process {number} was called with other arguments than process 0: {key} is {other.get(key)!r} there "
                f"and {first.get(key)!r} here. All processes must embed the same rows with the same model."
            )
