"""Runs a function on several processes for a test.

Importing torch takes seconds, so one process imports everything and the workers are its forks. A test starts one
script, which calls `world` for all of its sizes and cases. The forks find each other by the environment variables that
torchrun would set.
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
LIMIT = 240.0  # seconds; long, since the machine may be busy


def script(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs `python -m module arguments` with one thread; if it fails, the test fails with its error output."""
    process = subprocess.run(
        [sys.executable, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert process.returncode == 0, process.stderr[-4000:]
    # Gloo of torch 2.8 to 2.10 writes lines of its own to the output, before the one that counts.
    process.stdout = process.stdout.rstrip().rpartition("\n")[2]
    return process


def world(size: int, call: Callable[[int], object], limit: float = LIMIT) -> list[int | None]:
    """Runs `call(rank)` on `size` workers and returns their exit codes; `None` for one that did not end in time."""
    return wait(launch(size, call), limit)


def launch(size: int, call: Callable[[int], object]) -> list[int]:
    """Forks `size` workers that run `call(rank)` and returns their process ids."""
    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    return [_fork(rank, size, port, call) for rank in range(size)]


def _fork(rank: int, size: int, port: int, call: Callable[[int], object]) -> int:
    child = os.fork()
    if child:
        return child
    environment = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in environment.items()}, MASTER_ADDR="127.0.0.1")
    try:
        call(rank)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)


def wait(children: list[int], limit: float = LIMIT) -> list[int | None]:
    """Returns exit codes; `None` for a process that did not end in time and was killed."""
    deadline = time.monotonic() + limit
    codes: dict[int, int | None] = {}
    while len(codes) < len(children):
        for child in set(children) - set(codes):
            ended_child, status = os.waitpid(child, os.WNOHANG)
            if ended_child:
                codes[child] = os.waitstatus_to_exitcode(status)
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                codes[child] = None
        time.sleep(0.005)
    return [codes[child] for child in children]
