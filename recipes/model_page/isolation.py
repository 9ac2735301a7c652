"""Runs a function in a process of its own, with limits of time and memory, so that a crash is one failed line."""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

#: Bytes of address space.
MOST_MEMORY = 8 << 30


def isolated(call: Callable[[], dict[str, Any]], seconds: float) -> dict[str, Any]:
    """Returns what `call` returns in a fork of this process, or `{"error": reason}`.

    Args:
        call (`Callable[[], dict]`):
            Returns what JSON can hold.
        seconds (`float`):
            Limit of time, after which the fork is killed.
    """
    receiver, sender = os.pipe()
    sys.stdout.flush()
    process = os.fork()
    if process == 0:
        os.close(receiver)
        _run(call, sender)
    os.close(sender)
    text, is_late = _read(receiver, time.monotonic() + seconds)
    if is_late:
        os.kill(process, signal.SIGKILL)
    status = os.waitpid(process, 0)[1]
    if is_late:
        return {"error": f"not done after {seconds:.0f} s"}
    if not text:
        return {"error": f"the process ended with status {os.waitstatus_to_exitcode(status)}"}
    result: dict[str, Any] = json.loads(text)
    return result


def _run(call: Callable[[], dict[str, Any]], sender: int) -> None:
    try:
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
        try:
            result = call()
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
        with os.fdopen(sender, "w") as stream:
            stream.write(json.dumps(result))
    finally:
        os._exit(0)


def _read(receiver: int, end: float) -> tuple[str, bool]:
    """Returns what was sent, and whether the time was over before the end of it."""
    parts: list[bytes] = []
    with os.fdopen(receiver, "rb", buffering=0) as stream:
        while True:
            ready, _, _ = select.select([stream], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                return "", True
            part = stream.read(1 << 16)
            if not part:
                return b"".join(parts).decode(), False
            parts.append(part)
