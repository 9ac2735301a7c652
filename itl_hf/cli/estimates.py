"""`--dry_run`: an estimate in words, and how it was made."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from itl_hf.cli.output import Outcome, peak_memory

if TYPE_CHECKING:
    from itl_hf.embedding.estimate import Estimate
    from itl_hf.selection.estimate import SelectionEstimate


def embedding_outcome(found: Estimate, startup: float) -> Outcome:
    """What `itl-hf embed --dry_run` says; `startup` are the seconds until the first batch."""
    memory = peak_memory()
    lines = [
        *_embedding(found),
        f"time     {_time(found.seconds)}{_error(found.seconds_error, found.missing_rows)} on one process, and "
        f"{_time(startup)} to load the model and read the rows",
        f"disk     {size(found.disk_bytes)} for the finished store",
        f"memory   {_memory(memory)}",
        *_how(found),
    ]
    return Outcome("\n".join(lines), {**asdict(found), "startup_seconds": startup, "memory_bytes": memory, **_gpu()})


def selection_outcome(found: SelectionEstimate, startup: float) -> Outcome:
    """What `itl-hf select --dry_run` says."""
    memory = peak_memory()
    total = None if memory is None else memory + found.features_bytes
    lines = [
        *(line.replace("rows   ", "pool   ", 1) for line in _embedding(found.pool)),
        *(line.replace("rows   ", "targets", 1) for line in _embedding(found.targets)[:1]),
        f"time     {_time(found.seconds)}: embedding the pool {_time(found.pool.seconds)}"
        f"{_error(found.pool.seconds_error, found.pool.missing_rows)} on one process, the targets "
        f"{_time(found.targets.seconds)}, picking {_time(found.picking_seconds)}; and {_time(startup)} to load the "
        "model and read the rows",
        f"disk     {size(found.pool.disk_bytes + found.targets.disk_bytes)} for features, with --store",
        f"memory   {_memory(total)}",
        *_how(found.pool),
    ]
    facts = {**asdict(found), "seconds": found.seconds, "startup_seconds": startup, "memory_bytes": total, **_gpu()}
    return Outcome("\n".join(lines), facts)


def size(count: int) -> str:
    """Bytes as people read them.

    Example:
        >>> size(3 * 2**20), size(800)
        ('3.0 MiB', '1 KiB')
    """
    for unit, name in ((2**30, "GiB"), (2**20, "MiB")):
        if count >= unit:
            return f"{count / unit:.1f} {name}"
    return f"{-(-count // 1024)} KiB"


def _embedding(found: Estimate) -> list[str]:
    left = "all in the store" if not found.missing_rows else f"{found.missing_rows:,} to embed"
    lines = [f"rows     {found.rows:,} ({found.distinct_rows:,} distinct), {left}"]
    if found.tokens and found.missing_rows:
        mean = found.tokens / found.missing_rows
        lines.append(f"tokens   {found.tokens:,}{_error(found.tokens_error, 1)}, {mean:,.0f} a row")
    return lines


def _how(found: Estimate) -> list[str]:
    if not found.missing_rows:
        return []
    return [
        f"Estimated from {found.timed_rows:,} rows that were embedded here, in batches as the real run makes them, "
        "the longest first. Errors are 95% intervals; a machine that is busy with other things is slower."
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

    found = device_memory()
    return {} if found is None else {"device_memory_bytes": found}
