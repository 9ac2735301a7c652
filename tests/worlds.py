"""Several processes for one test: importing torch takes seconds, so one process imports everything, and its forks work.

A script that a test starts once calls `world` for as many sizes and cases as it likes. The forks find each other by the
environment that torchrun would set.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[1]
LIMIT = 240.0  # seconds: a machine may be busy with other things


def script(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module arguments` with one thread, and fails with what it complained of."""
    done = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done


def world(size: int, call: Callable[[int], object], limit: float = LIMIT) -> list[int | None]:
    """Exit codes of `size` workers that run `call(rank)`; `None` for one that did not end in time."""
    return wait(launch(size, call), limit)


def launch(size: int, call: Callable[[int], object]) -> list[int]:
    """Forks `size` workers that run `call(rank)`; their process ids."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [_fork(rank, size, port, call) for rank in range(size)]


def _fork(rank: int, size: int, port: int, call: Callable[[int], object]) -> int:
    child = os.fork()
    if child:
        return child
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()}, MASTER_ADDR="127.0.0.1")
    try:
        call(rank)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def wait(children: list[int], limit: float = LIMIT) -> list[int | None]:
    """Exit codes, `None` for one that did not end in time and had to be killed."""
    deadline = time.monotonic() + limit
    codes: dict[int, int | None] = {}
    while len(codes) < len(children):
        for child in set(children) - set(codes):
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                codes[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                codes[child] = None
        time.sleep(0.005)
    return [codes[child] for child in children]
