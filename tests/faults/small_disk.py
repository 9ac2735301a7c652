"""A disk that can be made full or read-only: a tmpfs where one may be mounted.

Without the right to mount, no file may become larger than a limit (`RLIMIT_FSIZE`), and folders lose their permission
to write, which does not hold for root.
"""

from __future__ import annotations

import contextlib
import os
import resource
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.faults.processes import Job

#: Size of a disk that is not full.
_ROOMY = 256 * 2**20
_PAGE = os.sysconf("SC_PAGESIZE")


def namespace() -> list[str]:
    """Returns the words that run a program where it may mount a tmpfs that ends with it; none if nothing does."""
    for words in (["unshare", "--mount"], ["unshare", "--map-root-user", "--mount"]):
        probe = [*words, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            if subprocess.run(probe, capture_output=True, timeout=60, check=False).returncode == 0:
                return words
    return []


class SmallDisk:
    """A folder on a disk of its own.

    Args:
        folder: a new folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.is_tmpfs = self._mount("-t", "tmpfs", "tmpfs")
        self.largest_file: int | None = None

    @property
    def kind(self) -> str:
        """How faults are made."""
        return "tmpfs" if self.is_tmpfs else "RLIMIT_FSIZE"

    def used(self) -> int:
        """Returns the bytes that are used: of the disk, or of its largest file."""
        if self.is_tmpfs:
            status = os.statvfs(self.folder)
            return (status.f_blocks - status.f_bfree) * status.f_frsize
        return max((path.stat().st_size for path in self.folder.rglob("*") if path.is_file()), default=0)

    def limit(self, num_bytes: int | None) -> None:
        """Makes the disk as large as this; `None` for large."""
        if self.is_tmpfs:
            size = _ROOMY if num_bytes is None else max(1, -(-num_bytes // _PAGE)) * _PAGE
            assert self._mount("-o", f"remount,size={size}", "tmpfs")
        else:
            self.largest_file = num_bytes

    def limited(self, job: Job) -> Job:
        """Returns the job as it is to be run on this disk."""
        limit = self.largest_file

        def run() -> None:
            if limit is not None:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            job()

        return run

    @contextlib.contextmanager
    def read_only(self) -> Iterator[bool]:
        """Context in which nothing can be written; yields whether this holds for this user."""
        if self.is_tmpfs:
            assert self._mount("-o", "remount,ro", "tmpfs")
            try:
                yield True
            finally:
                assert self._mount("-o", "remount,rw", "tmpfs")
            return
        paths = [self.folder, *self.folder.rglob("*")]
        modes = [stat.S_IMODE(path.stat().st_mode) for path in paths]
        for path in reversed(paths):
            path.chmod(0o555)
        try:
            yield os.geteuid() != 0
        finally:
            for path, mode in zip(paths, modes, strict=True):
                path.chmod(mode)

    def _mount(self, *words: str) -> bool:
        command = ["mount", *words, str(self.folder)]
        with contextlib.suppress(OSError):
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        return False
