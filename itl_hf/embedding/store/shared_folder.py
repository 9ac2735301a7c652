"""Whether all processes see the same folder, which they do not if it is on a disk of each machine."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from itl_hf.launch import process_label

if TYPE_CHECKING:
    from itl_hf.processes import Processes

#: Seconds until a file must be visible to the other machines: file systems of a network keep what they saw for a while.
_VISIBLE_SECONDS = 5.0


def require_shared(directory: Path, processes: Processes) -> None:
    """Checks that every process sees what the first one writes into a folder. Collective: all processes must call it.

    Args:
        directory (`Path`):
            The folder, which process 0 can write to.
        processes (`Processes`):
            The processes.

    Raises:
        `OSError`: If a process does not see the file, or cannot write there; the message names the process.
    """
    if processes.size == 1:
        return
    # The suffix is that of unfinished files, which the next run deletes if this one is killed.
    probe = directory / f"probe-{uuid.uuid4().hex}.tmp"
    probe = directory / processes.call_and_gather(lambda: _write(probe) if processes.rank == 0 else "")[0]
    try:
        answers = processes.call_and_gather(lambda: _obstacle(probe, processes.rank))
    finally:
        if processes.rank == 0:
            probe.unlink(missing_ok=True)
    obstacles = [answer for answer in answers if answer is not None]
    if obstacles:
        more = f" (and {len(obstacles) - 1} more)" if len(obstacles) > 1 else ""
        raise OSError(
            f"{obstacles[0]}{more}: {directory} must be on a file system that all processes share. Give another "
            "folder, or embed on one machine and copy the folder to the others."
        )


def _write(probe: Path) -> str:
    probe.touch()
    return probe.name


def _obstacle(probe: Path, rank: int) -> str | None:
    deadline = time.monotonic() + _VISIBLE_SECONDS
    while not probe.exists():
        if time.monotonic() > deadline:
            return f"{process_label(rank)} does not see what process 0 wrote"
        time.sleep(0.1)
    if not os.access(probe.parent, os.W_OK | os.X_OK):
        return f"{process_label(rank)} cannot write"
    return None
