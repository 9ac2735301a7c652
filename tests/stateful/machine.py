"""What the machines share: a folder of their own, deaths at a file operation, the sizes of the tiers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine

from tests.disk.killing import KilledError, kill

#: Of the default tier: a few seconds for each machine.
QUICK = settings(max_examples=40, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))
#: Of the slow tier: minutes.
THOROUGH = settings(QUICK, max_examples=1000, stateful_step_count=50)


class FolderMachine(RuleBasedStateMachine):
    """A machine with a folder that is deleted at its end."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="itl-hf-stateful-"))

    def teardown(self) -> None:
        shutil.rmtree(self.folder)


def kill_at(job: Callable[[], object], point: int) -> bool:
    """Runs the job until its file operation `point`, and returns whether it had so many; otherwise it has ended."""
    has_ended = False

    def run() -> None:
        nonlocal has_ended
        job()
        has_ended = True
        raise KilledError  # so that `kill` accepts a job of fewer operations

    kill(run, point)
    return not has_ended


def flip_byte(path: Path, position: int) -> None:
    """Changes one byte of a file; `position` may be larger than the file."""
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 0x10
    path.write_bytes(bytes(content))
