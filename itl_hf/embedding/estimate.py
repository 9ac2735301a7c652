"""What embedding a dataset will take, before hours are spent: rows, tokens, time, disk and memory.

Rows are counted: all are read, as `embed` reads them, and what a store holds already is left out. Tokens are counted in
a random sample of rows. Time is that of a few real batches of the real model, the longest rows first, then others drawn
at random, so that memory shows its peak. Disk is measured on a shard written into a temporary folder. Not covered: what
the machine does besides, and several processes, which share time and not memory.
"""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from itl_hf.embedding.embedders.base import Embedded
from itl_hf.embedding.embedders.batching import token_batches
from itl_hf.embedding.row_keys import RowKeys, read_rows, row_keys, text_columns
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.manifest import NAME

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.embedding.embedders.base import Embedder, Fingerprint
    from itl_hf.text import Row

SHARD_ROWS = 512
#: Rows whose tokens are counted.
SAMPLE_ROWS = 2_048
#: No further batch is timed once so many seconds are spent, or so many batches are done.
MOST_SECONDS, MOST_BATCHES = 30.0, 12
#: A machine is not the same from minute to minute: no estimate of time is nearer than this.
LEAST_ERROR = 0.1


@dataclass(frozen=True)
class Estimate:
    """What is left to do, and what it will take. Errors are half of a 95% interval, as a share.

    Args:
        rows (`int`):
            Rows of the dataset.
        distinct_rows (`int`):
            Rows that differ in their text: each is embedded once.
        missing_rows (`int`):
            Of these, those that the store does not hold yet.
        tokens (`int`, *optional*):
            Tokens of the missing rows; `None` where the embedder does not count them.
        tokens_error (`float`):
            0 where every row was counted.
        seconds (`float`):
            Time that embedding them takes on one process.
        seconds_error (`float`):
            From the spread of the batches that were timed.
        disk_bytes (`int`):
            What the finished store takes.
        features_bytes (`int`):
            What the features take in memory, where there is no store.
        timed_rows (`int`):
            Rows that were embedded to find out.
    """

    rows: int
    distinct_rows: int
    missing_rows: int
    tokens: int | None
    tokens_error: float
    seconds: float
    seconds_error: float
    disk_bytes: int
    features_bytes: int
    timed_rows: int


@dataclass(frozen=True)
class _Timing:
    """What the timed rows took: per unit (a token, or a row where tokens are not counted)."""

    seconds_per_unit: float
    error: float
    rows: int
    embedded: Embedded | None


def estimate(
    dataset: Dataset,
    embedder: Embedder,
    directory: Path | None = None,
    *,
    fingerprint: Fingerprint | None = None,
    keys: RowKeys | None = None,
) -> Estimate:
    """Estimates `embed(dataset, embedder, directory)`.

    Args:
        dataset (`Dataset`):
            Rows as `itl_hf.text.row_format` describes them.
        embedder (`Embedder`):
            Runs on a few hundred rows.
        directory (`Path`, *optional*):
            The store's folder; it is only looked at.
        fingerprint (`dict`, *optional*):
            The embedder's, if it is known.
        keys (`RowKeys`, *optional*):
            Of the rows, if they are known.

    Raises:
        `ValueError`: A row that cannot be read, or a directory that holds other work.

    Example:
        >>> from itl_hf import HiddenStates
        >>> estimate(pool, HiddenStates(model)).missing_rows == len(pool)
        True
    """
    keys = row_keys(dataset, embedder) if keys is None else keys
    rows, index = text_columns(dataset), keys.index()
    distinct = np.arange(len(rows)) if index is None else np.unique(index, return_index=True)[1]  # (M,)
    missing = _missing(distinct, len(rows), embedder, directory, fingerprint, keys)
    if not len(missing):
        held = sum(path.stat().st_size for path in directory.iterdir()) if directory is not None else 0
        return Estimate(len(rows), len(distinct), 0, 0, 0.0, 0.0, 0.0, held, 0, 0)
    draw = np.random.default_rng(0).permutation(missing)
    counted = _lengths(read_rows(rows, np.sort(draw[:SAMPLE_ROWS])), embedder)
    timing = _time(read_rows(rows, np.sort(draw[:SHARD_ROWS])), embedder)
    units, units_error = _total(counted, len(missing))
    _forget_truncation(embedder)
    item = 2 if embedder.storage_dtype == "float16" else 4
    return Estimate(
        rows=len(rows),
        distinct_rows=len(distinct),
        missing_rows=len(missing),
        tokens=None if counted is None else round(units),
        tokens_error=units_error,
        seconds=units * timing.seconds_per_unit,
        seconds_error=math.hypot(timing.error, units_error),
        disk_bytes=_disk(
            len(rows), len(distinct), embedder, timing.embedded, {**(fingerprint or {}), "hash": keys.hash}
        ),
        features_bytes=(len(distinct) + len(rows) * (index is not None)) * embedder.dimension * item,
        timed_rows=timing.rows,
    )


def _missing(
    distinct: np.ndarray,
    rows: int,
    embedder: Embedder,
    directory: Path | None,
    fingerprint: Fingerprint | None,
    keys: RowKeys,
) -> np.ndarray:
    """Those of the distinct rows that a store, if there is one, does not hold."""
    if directory is None or not (directory / NAME).exists():
        return distinct
    work = {**(embedder.fingerprint() if fingerprint is None else fingerprint), "rows_hash": keys.hash}
    dtype = embedder.storage_dtype
    store = FeatureStore(
        directory, work, rows=rows, dimension=embedder.dimension, shard_rows=SHARD_ROWS, dtype=dtype, index=keys.index()
    )
    parts = [store.row_numbers(*store.row_range(shard)) for shard in store.missing()]
    return np.concatenate(parts) if parts else distinct[:0]


def _lengths(rows: Sequence[Row], embedder: Any) -> np.ndarray | None:
    """Tokens that the model reads of each row, (B,); `None` where the embedder cannot say."""
    counts = embedder.token_counts(rows)
    return None if counts is None else np.asarray(counts, dtype=np.int64)


def _total(counted: np.ndarray | None, rows: int) -> tuple[float, float]:
    """Tokens of all rows from those of a sample, or just the rows; and the error as a share."""
    if counted is None:
        return float(rows), 0.0
    if len(counted) == rows:
        return float(counted.sum()), 0.0
    spread = counted.std(ddof=1) / math.sqrt(len(counted)) * math.sqrt(1 - len(counted) / rows)
    return float(counted.mean() * rows), float(1.96 * spread / counted.mean())


def _time(rows: list[Row], embedder: Any) -> _Timing:
    """Times batches of a shard's rows, the longest first, then others drawn at random."""
    lengths = _lengths(rows, embedder)
    units = np.ones(len(rows)) if lengths is None else lengths  # (B,)
    batches = token_batches([int(length) for length in units], _batch_units(embedder, lengths))
    order = [0, *(1 + np.random.default_rng(0).permutation(len(batches) - 1))]
    _run(rows[: min(4, len(rows))], embedder)  # what the first call costs, the thousandth does not
    rates: list[float] = []
    spent, done, embedded = 0.0, [], None
    for place in order[:MOST_BATCHES]:
        started = time.perf_counter()
        embedded = _run([rows[i] for i in batches[place]], embedder)
        took = time.perf_counter() - started
        rates.append(took / float(units[batches[place]].sum()))
        done.append(place)
        spent += took
        if spent > MOST_SECONDS:
            break
    return _Timing(*_rate(rates, done, batches, units), sum(len(batches[place]) for place in done), embedded)


def _rate(rates: list[float], done: list[int], batches: list[list[int]], units: np.ndarray) -> tuple[float, float]:
    """Seconds per unit over the shard, and the error: the longest batch stands for itself, those drawn for the rest."""
    shares = np.array([units[batch].sum() for batch in batches]) / units.sum()
    first, drawn = rates[0], np.array(rates[1:])
    if not len(drawn):
        return first, 0.5 if len(batches) > 1 else 2 * LEAST_ERROR
    weight = shares[done[1:]]
    rest = float((drawn * weight).sum() / weight.sum())
    rate = shares[0] * first + (1 - shares[0]) * rest
    spread = 1.96 * drawn.std(ddof=1) / math.sqrt(len(drawn)) / rate if len(drawn) > 1 else 0.3
    return float(rate), float(max(LEAST_ERROR, spread))


def _batch_units(embedder: Any, lengths: np.ndarray | None) -> int:
    return 32 if lengths is None else int(embedder.batch_tokens)


def _run(rows: Sequence[Row], embedder: Any) -> Embedded:
    """One batch, features and all, as `embed` runs it; synchronised, since they come back on the CPU."""
    made = embedder.embed(rows, on_rows=lambda count: None)
    return made if isinstance(made, Embedded) else Embedded(made)


def _disk(rows: int, distinct: int, embedder: Any, sample: Embedded | None, work: Fingerprint) -> int:
    """Bytes of the finished store, from one shard of it that is written and deleted."""
    assert sample is not None
    height = min(SHARD_ROWS, distinct)
    places = np.arange(height) % len(sample.features)
    dtype = embedder.storage_dtype
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(folder, work, rows=height, dimension=embedder.dimension, shard_rows=height, dtype=dtype)
        columns = {name: values.numpy()[places] for name, values in sample.columns.items()}
        store.write(0, sample.features.numpy()[places].astype(dtype), columns)
        written = store.path(0).stat().st_size
        others = sum(path.stat().st_size for path in Path(folder).iterdir()) - written
    per_row = embedder.dimension * np.dtype(dtype).itemsize + sum(c.dtype.itemsize for c in columns.values()) + 8
    fixed = written - height * per_row
    shards = -(-distinct // SHARD_ROWS)
    return int(shards * fixed + distinct * per_row + others + (8 * rows if distinct < rows else 0))


def _forget_truncation(embedder: Any) -> None:
    """What was cut here is not what a later run cuts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        embedder.report_truncation()


def device_memory() -> int | None:
    """The most memory that tensors have taken on the GPU, in bytes; `None` without one."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None
