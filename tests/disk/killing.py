"""Simulates the death of a process at each of its file operations, in this process.

An audit hook of Python is called before every `open`, `rename`, `mkdir`, `rmdir` and `unlink`, also of those within the
standard library. At the operation whose turn it is, it raises `KilledError`, and again at every later one, so that no
`finally` can tidy up, as after SIGKILL. Files are written between such operations; they are cut in half at `fsync`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

from itl_hf.disk import temporary

OPERATIONS = {"open", "os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.chmod", "os.link", "os.symlink"}
_active: list[Callable[[], None]] = []


class KilledError(BaseException):
    """Not an `Exception`, so that nothing catches it."""


def _hook(event: str, arguments: tuple) -> None:
    if _active and event in OPERATIONS:
        _active[-1]()


@contextlib.contextmanager
def before_each_operation(call: Callable[[], None]) -> Iterator[None]:
    """Calls `call` before every file operation in this context."""
    if not getattr(sys, "_itl_hf_hook", False):
        sys.addaudithook(_hook)  # a hook cannot be removed
        sys._itl_hf_hook = True  # type: ignore[attr-defined]
    _active.append(call)
    try:
        yield
    finally:
        _active.pop()


def count_operations(job: Callable[[], object]) -> int:
    """Runs the job and returns the number of points at which `kill` can end it."""
    points = _Points(None)
    points.run(job)
    return points.num_passed


def kill(job: Callable[[], object], point: int) -> None:
    """Runs the job until its file operation number `point`, from 0, and no further."""
    points = _Points(point)
    with contextlib.suppress(KilledError):
        points.run(job)
        raise AssertionError(f"the job ended before its operation {point}")
    temporary._own_tokens.clear()  # what was written belongs to a dead process


class _Points:
    def __init__(self, point: int | None) -> None:
        self.point, self.num_passed = point, 0

    def run(self, job: Callable[[], object]) -> None:
        fsync = os.fsync

        def fsync_in_half(handle: int) -> None:
            if self.num_passed == self.point and os.fstat(handle).st_size:
                with contextlib.suppress(OSError):  # a folder
                    os.ftruncate(handle, os.fstat(handle).st_size // 2)
            self.step()
            fsync(handle)

        os.fsync = fsync_in_half
        try:
            with before_each_operation(self.step):
                job()
        finally:
            os.fsync = fsync

    def step(self) -> None:
        self.num_passed += 1
        if self.point is not None and self.num_passed > self.point:
            raise KilledError
