"""Estimates what embedding a dataset takes before it runs: rows, tokens, time, disk and memory.

- Rows: all rows are read, as `embed` reads them; rows whose features are in the store are not counted.
- Tokens: counted in a random sample of rows.
- Time: a few batches run through the real model, the one with the longest rows first, so that memory reaches its peak,
  then others drawn at random.
- Disk: measured on a shard that is written into a temporary folder.

The features of the timed rows are not kept. A row's features depend on the rows of its batch in their last bits, and
the batches of a store are made within its shards of consecutive rows, so that equal inputs give equal features and
picks, whoever computes them; random rows come in other batches. What is lost is `MAX_TIMING_SECONDS` at most.

The estimate does not include other load on the machine, nor several processes, which share time and not memory.
"""

from __future__ import annotations

import math
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from itl_hf.embedding.embedders.base import Embedded
from itl_hf.embedding.embedders.batching import token_batches
from itl_hf.embedding.row_keys import RowKeys, distinct_rows, row_keys, text_columns
from itl_hf.embedding.store.feature_store import FeatureStore
from itl_hf.embedding.store.manifest import MANIFEST_NAME

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.embedding.embedders.base import Embedder, Fingerprint
    from itl_hf.text import Row, TextRows

SHARD_ROWS = 512
#: Number of rows whose tokens are counted.
SAMPLE_ROWS = 2_048
#: Timing ends after this many seconds or batches, whichever comes first.
MAX_TIMING_SECONDS, MAX_TIMING_BATCHES = 30.0, 12
#: Smallest relative error of an estimate of time: the speed of a machine varies from minute to minute.
MIN_RELATIVE_ERROR = 0.1


@dataclass(frozen=True)
class Estimate:
    """What remains to be embedded, and what it takes. Errors are half the width of a 95% interval, relative.

    Args:
        rows (`int`):
            Number of rows of the dataset.
        distinct_rows (`int`):
            Number of rows that differ in their text: each is embedded once.
        missing_rows (`int`):
            Number of distinct rows that the store does not hold.
        tokens (`int`, *optional*):
            Number of tokens of the missing rows; `None` if the embedder does not count them.
        tokens_error (`float`):
            Error of `tokens`; 0 if every row was counted.
        seconds (`float`):
            Time that embedding the missing rows takes on one process.
        seconds_error (`float`):
            Error of `seconds`, from the spread of the timed batches.
        disk_bytes (`int`):
            Size of the finished store.
        features_bytes (`int`):
            Memory that the features take if there is no store.
        timed_rows (`int`):
            Number of rows that were embedded for the estimate.
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
    """The time per unit, a unit being a token, or a row if the embedder does not count tokens."""

    seconds_per_unit: float
    error: float
    rows: int
    embedded: Embedded


def estimate(
    dataset: Dataset | TextRows,
    embedder: Embedder,
    directory: Path | None = None,
    *,
    fingerprint: Fingerprint | None = None,
    keys: RowKeys | None = None,
) -> Estimate:
    """Estimates what `embed(dataset, embedder, directory)` takes.

    Args:
        dataset (`Dataset` or `TextRows`):
            Rows as `itl_hf.text.row_format` describes them.
        embedder (`Embedder`):
            Embeds a few hundred rows for the estimate.
        directory (`Path`, *optional*):
            Folder of the store, which is read only.
        fingerprint (`dict`, *optional*):
            The embedder's fingerprint, if the caller has it.
        keys (`RowKeys`, *optional*):
            Keys of the rows, if the caller has them.

    Raises:
        `ValueError`: If a row cannot be embedded, or the directory holds features made from other inputs.

    Example:
        >>> from itl_hf import HiddenStates
        >>> estimate(pool, HiddenStates(model)).missing_rows == len(pool)
        True
    """
    keys = row_keys(dataset, embedder) if keys is None else keys
    rows, index = text_columns(dataset), keys.index()
    distinct = distinct_rows(index, len(rows))  # (M,)
    missing = _missing_rows(distinct, index, embedder, directory, fingerprint, keys)
    if not len(missing):
        stored_bytes = sum(path.stat().st_size for path in directory.iterdir()) if directory is not None else 0
        return Estimate(len(rows), len(distinct), 0, 0, 0.0, 0.0, 0.0, stored_bytes, 0, 0)
    shuffled_rows = np.random.default_rng(0).permutation(missing)
    sample_lengths = _row_lengths(rows.read(np.sort(shuffled_rows[:SAMPLE_ROWS])), embedder)
    timing = _time_batches(rows.read(np.sort(shuffled_rows[:SHARD_ROWS])), embedder)
    units, units_error = _total_units(sample_lengths, len(missing))
    with warnings.catch_warnings():  # the rows that were cut here must not be reported by a later run
        warnings.simplefilter("ignore")
        embedder.report_truncation()
    identity = {**(fingerprint or {}), "hash": keys.hash}
    item_bytes = 2 if embedder.storage_dtype == "float16" else 4
    return Estimate(
        rows=len(rows),
        distinct_rows=len(distinct),
        missing_rows=len(missing),
        tokens=None if sample_lengths is None else round(units),
        tokens_error=units_error,
        seconds=units * timing.seconds_per_unit,
        seconds_error=math.hypot(timing.error, units_error),
        disk_bytes=_disk_bytes(len(rows), len(distinct), embedder, timing.embedded, identity),
        features_bytes=(len(distinct) + len(rows) * (index is not None)) * embedder.dimension * item_bytes,
        timed_rows=timing.rows,
    )


def _missing_rows(
    distinct: np.ndarray,
    index: np.ndarray | None,
    embedder: Embedder,
    directory: Path | None,
    fingerprint: Fingerprint | None,
    keys: RowKeys,
) -> np.ndarray:
    """Returns the distinct rows that the store, if there is one, does not hold."""
    if directory is None or not (directory / MANIFEST_NAME).exists():
        return distinct
    store = FeatureStore(
        directory,
        {**(embedder.fingerprint() if fingerprint is None else fingerprint), "rows_hash": keys.hash},
        rows=len(keys.keys),
        dimension=embedder.dimension,
        shard_rows=SHARD_ROWS,
        dtype=embedder.storage_dtype,
        index=index,
    )
    parts = [store.row_numbers(*store.row_range(shard)) for shard in store.missing()]
    return np.concatenate(parts) if parts else distinct[:0]


def _row_lengths(rows: Sequence[Row], embedder: Embedder) -> np.ndarray | None:
    """Returns the number of tokens that the model reads of each row, (B,), or `None` if the embedder cannot tell."""
    counts = embedder.token_counts(rows)
    return None if counts is None else np.asarray(counts, dtype=np.int64)


def _total_units(sample_lengths: np.ndarray | None, num_rows: int) -> tuple[float, float]:
    """Extrapolates the tokens of a sample to all rows; returns their number and its relative error.

    Without `sample_lengths` a unit is a row.
    """
    if sample_lengths is None:
        return float(num_rows), 0.0
    if len(sample_lengths) == num_rows:
        return float(sample_lengths.sum()), 0.0
    unseen_share = 1 - len(sample_lengths) / num_rows
    deviation = sample_lengths.std(ddof=1) / math.sqrt(len(sample_lengths)) * math.sqrt(unseen_share)
    return float(sample_lengths.mean() * num_rows), float(1.96 * deviation / sample_lengths.mean())


def _time_batches(rows: list[Row], embedder: Embedder) -> _Timing:
    """Times batches of a shard's rows, the one with the longest rows first, then others drawn at random."""
    lengths = _row_lengths(rows, embedder)
    units = np.ones(len(rows)) if lengths is None else lengths  # (B,)
    batch_units = 32 if lengths is None else int(embedder.batch_tokens)
    batches = token_batches([int(length) for length in units], batch_units)
    order = [0, *(1 + np.random.default_rng(0).permutation(len(batches) - 1))]
    embedded = _embed_batch(rows[: min(4, len(rows))], embedder)  # the first call costs more than all later ones
    rates: list[float] = []
    total_seconds, timed_batches = 0.0, []
    for number in order[:MAX_TIMING_BATCHES]:
        start = time.perf_counter()
        embedded = _embed_batch([rows[i] for i in batches[number]], embedder)
        seconds = time.perf_counter() - start
        rates.append(seconds / float(units[batches[number]].sum()))
        timed_batches.append(number)
        total_seconds += seconds
        if total_seconds > MAX_TIMING_SECONDS:
            break
    rate, error = _combine_rates(rates, timed_batches, batches, units)
    return _Timing(rate, error, sum(len(batches[number]) for number in timed_batches), embedded)


def _combine_rates(
    rates: list[float], timed_batches: list[int], batches: list[list[int]], units: np.ndarray
) -> tuple[float, float]:
    """Returns seconds per unit over the shard and the relative error.

    The rate of the longest batch, the first, counts for that batch only; the mean of the others, which were drawn at
    random, counts for the rest of the shard.
    """
    shares = np.array([units[batch].sum() for batch in batches]) / units.sum()
    longest_rate, random_rates = rates[0], np.array(rates[1:])
    if not len(random_rates):
        return longest_rate, 0.5 if len(batches) > 1 else 2 * MIN_RELATIVE_ERROR
    weights = shares[timed_batches[1:]]
    rest_rate = float((random_rates * weights).sum() / weights.sum())
    rate = shares[0] * longest_rate + (1 - shares[0]) * rest_rate
    error = 0.3
    if len(random_rates) > 1:
        error = 1.96 * random_rates.std(ddof=1) / math.sqrt(len(random_rates)) / rate
    return float(rate), float(max(MIN_RELATIVE_ERROR, error))


def _embed_batch(rows: Sequence[Row], embedder: Embedder) -> Embedded:
    """Embeds one batch as `embed` does. The features come back on the CPU, so a GPU has finished when it returns."""
    result = embedder.embed(rows, on_rows=lambda count: None)
    return result if isinstance(result, Embedded) else Embedded(result)


def _disk_bytes(num_rows: int, num_distinct: int, embedder: Embedder, sample: Embedded, identity: Fingerprint) -> int:
    """Returns the size of the finished store, extrapolated from one shard that is written and deleted."""
    shard_rows = min(SHARD_ROWS, num_distinct)
    repeats = np.arange(shard_rows) % len(sample.features)  # fills the shard with copies of the sample's rows
    dtype = embedder.storage_dtype
    with tempfile.TemporaryDirectory() as folder:
        store = FeatureStore(
            folder, identity, rows=shard_rows, dimension=embedder.dimension, shard_rows=shard_rows, dtype=dtype
        )
        columns = {name: values.numpy()[repeats] for name, values in sample.columns.items()}
        store.write(0, sample.features.numpy()[repeats].astype(dtype), columns)
        shard_bytes = store.path(0).stat().st_size
        other_bytes = sum(path.stat().st_size for path in Path(folder).iterdir()) - shard_bytes
    column_bytes = sum(column.dtype.itemsize for column in columns.values()) + 8
    row_bytes = embedder.dimension * np.dtype(dtype).itemsize + column_bytes
    overhead = shard_bytes - shard_rows * row_bytes
    num_shards = -(-num_distinct // SHARD_ROWS)
    index_bytes = 8 * num_rows if num_distinct < num_rows else 0
    return int(num_shards * overhead + num_distinct * row_bytes + other_bytes + index_bytes)


def device_memory() -> int | None:
    """Returns the most memory that tensors have taken on the GPU, in bytes; `None` without a GPU."""
    return int(torch.cuda.max_memory_allocated()) if torch.cuda.is_available() else None
