"""The output of `--dry_run`: the estimate, and how it was made."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from itl_hf.cli.output import Outcome, peak_memory
from itl_hf.embedding.store.sizes import size

if TYPE_CHECKING:
    from itl_hf.embedding.estimate import Estimate
    from itl_hf.selection.calculator import SelectionCost, SelectionSizes
    from itl_hf.selection.estimate import SelectionEstimate


def embedding_outcome(estimate: Estimate, startup: float) -> Outcome:
    """The output of `itl-hf embed --dry_run`; `startup` is the time in seconds until the first batch."""
    memory = peak_memory()
    lines = [
        *_embedding(estimate),
        f"time     {_time(estimate.seconds)}{_error(estimate.seconds_error, estimate.missing_rows)} on one process, "
        f"and {_time(startup)} to load the model and read the rows",
        f"disk     {size(estimate.disk_bytes)} for the finished store",
        f"memory   {_memory(memory)}",
        *_how(estimate),
    ]
    return Outcome("\n".join(lines), {**asdict(estimate), "startup_seconds": startup, "memory_bytes": memory, **_gpu()})


def selection_outcome(estimate: SelectionEstimate, startup: float) -> Outcome:
    """The output of `itl-hf select --dry_run`."""
    memory = peak_memory()
    total = None if memory is None else memory + estimate.features_bytes
    cheap = estimate.shortlist
    disk_bytes = estimate.pool.disk_bytes + estimate.targets.disk_bytes + (0 if cheap is None else cheap.disk_bytes)
    name = "pool   " if cheap is None else "listed "
    lines = [
        *([] if cheap is None else (line.replace("rows   ", "pool   ", 1) for line in _embedding(cheap)[:1])),
        *(line.replace("rows   ", name, 1) for line in _embedding(estimate.pool)),
        *(line.replace("rows   ", "targets", 1) for line in _embedding(estimate.targets)[:1]),
        f"time     {_time(estimate.seconds)}: "
        + ("" if cheap is None else f"the features of the shortlist {_time(cheap.seconds)}, ")
        + f"embedding the {'pool' if cheap is None else 'shortlist'} {_time(estimate.pool.seconds)}"
        f"{_error(estimate.pool.seconds_error, estimate.pool.missing_rows)} on one process, the targets "
        f"{_time(estimate.targets.seconds)}, picking {_time(estimate.picking_seconds)}; and {_time(startup)} to load "
        "the model and read the rows",
        f"disk     {size(disk_bytes)} for features, in the cache or with --store",
        f"memory   {_memory(total)}",
        *_how(estimate.pool),
    ]
    facts = {
        **asdict(estimate),
        "seconds": estimate.seconds,
        "startup_seconds": startup,
        "memory_bytes": total,
        **_gpu(),
    }
    return Outcome("\n".join(lines), facts)


def calculated_outcome(
    sizes: SelectionSizes, cost: SelectionCost, embedding: dict[str, Any] | None, base: int | None
) -> Outcome:
    """The output of `itl-hf estimate`; `embedding` holds the fields of an `Estimate`, where a model was named, and
    `base` the memory of the program, with the model.
    """
    memory = None if base is None else base + cost.memory_bytes
    count = sizes.num_processes
    embedding_seconds = 0.0 if embedding is None else embedding["seconds"] / count
    seconds = cost.seconds + embedding_seconds
    disk_bytes = cost.disk_bytes if embedding is None else embedding["disk_bytes"]
    parts = [] if embedding is None else [f"embedding {_time(embedding_seconds)}"]
    how = f"Picking was timed here on {cost.timed_rows:,} random rows; other processes are taken to be as fast."
    if embedding is not None:
        how += f" The model embedded {embedding['timed_rows']} rows of random words."
    lines = [
        f"time     {_time(seconds)} on {count} process{'es' if count > 1 else ''}: "
        + ", ".join([*parts, f"picking {_time(cost.seconds)}"]),
        f"memory   {_memory(memory)} for each process",
        f"disk     {size(disk_bytes)} for the features",
        f"traffic  at least {size(cost.traffic_bytes)} for each process; {cost.bytes_per_pick:,} bytes for each pick",
        how,
    ]
    facts = {**asdict(cost), "seconds": seconds, "picking_seconds": cost.seconds, "memory_bytes": memory}
    facts |= {"disk_bytes": disk_bytes, "embedding": embedding, "sizes": asdict(sizes)}
    return Outcome("\n".join(lines), facts)


def _embedding(estimate: Estimate) -> list[str]:
    left = "all in the store" if not estimate.missing_rows else f"{estimate.missing_rows:,} to embed"
    lines = [f"rows     {estimate.rows:,} ({estimate.distinct_rows:,} distinct), {left}"]
    if estimate.tokens and estimate.missing_rows:
        mean = estimate.tokens / estimate.missing_rows
        lines.append(f"tokens   {estimate.tokens:,}{_error(estimate.tokens_error, 1)}, {mean:,.0f} a row")
    return lines


def _how(estimate: Estimate) -> list[str]:
    if not estimate.missing_rows:
        return []
    return [
        f"Estimated from {estimate.timed_rows:,} rows that were embedded here, in batches as the real run makes them, "
        "the longest first. Errors are 95% intervals; a machine that is busy with other things is slower. Nothing was "
        "kept: the real run embeds these rows again, so that its features are the same with and without a dry run."
    ]


def _error(share: float, counts: int) -> str:
    return f" ± {share:.0%}" if share and counts else ""


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"


def _memory(count: int | None) -> str:
    gpu = _gpu().get("device_memory_bytes")
    here = "not known on this system" if count is None else f"{size(count)}, model included"
    return here if gpu is None else f"{here}; {size(gpu)} on the GPU"


def _gpu() -> dict[str, int]:
    from itl_hf.embedding.estimate import device_memory

    memory = device_memory()
    return {} if memory is None else {"device_memory_bytes": memory}
