"""Counts the operations of this process that change files, and kills it with SIGKILL at one of them.

An audit hook of Python is called before every file that is opened for writing, and before every rename, link, new mode,
new folder and deletion, also of those within libraries. `os.fsync` counts, too; a process that is killed there leaves
half of the file. What native code writes (safetensors, torch, FAISS) is between these operations: kills at seeded times
reach it.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

CHANGES = {
    "os.rename",
    "os.mkdir",
    "os.rmdir",
    "os.remove",
    "os.chmod",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.utime",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Operations:
    """The file operations of this process in a folder, from now on.

    Args:
        folder: what is elsewhere does not count.
        kill_at: number of the operation, from 0, at which the process is killed.
    """

    def __init__(self, folder: Path, kill_at: int | None = None) -> None:
        self.prefix, self.kill_at, self.count = os.fsencode(folder), kill_at, 0
        sys.addaudithook(self._hook)  # it cannot be removed, and ends with the process
        self._fsync, os.fsync = os.fsync, self._fsync_in_half  # type: ignore[assignment]

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            if arguments[2] & _WRITING and self._counts(arguments[0]):
                self._step()
        elif event in CHANGES and self._counts(arguments[0]):
            self._step()

    def _counts(self, path: object) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):  # an open file
            return False
        name = os.fsencode(path)
        return not name.startswith(b"/") or name.startswith(self.prefix)

    def _fsync_in_half(self, handle: Any) -> None:
        number = handle if isinstance(handle, int) else handle.fileno()
        if self.count == self.kill_at and os.path.isfile(f"/proc/self/fd/{number}"):
            os.ftruncate(number, os.fstat(number).st_size // 2)
        self._step()
        self._fsync(handle)

    def _step(self) -> None:
        if self.count == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        self.count += 1
