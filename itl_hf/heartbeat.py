"""Processes that watch each other through the key-value store of `torch.distributed`.

Each process counts up a number in the store every half second and reads those of the others. A process whose number
stands still was killed, or its machine or the link to it is down; without this, another one that waits for it in a
collective would wait for as long as the collective may last. A process that fails writes its error into the store.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from datetime import timedelta

from torch._C._distributed_c10d import PrefixStore, Store

#: Environment variable with the seconds after which a process that is not heard of counts as dead.
LIMIT_VARIABLE = "ITL_HF_PROCESS_TIMEOUT"
#: A process may hold Python's lock for a while, as when it reads a large file, and counts nothing meanwhile.
DEFAULT_LIMIT = 60.0
#: Seconds that a process has to end by itself once another one has failed, before it is ended.
GRACE_SECONDS = 20.0
_INTERVAL = 0.5
_ANSWER_SECONDS = 10.0
_LEFT = -1
_LEAVE_SECONDS = 2.0
_LOSS_SECONDS = 2.0


def time_limit() -> float:
    """Returns the seconds after which a process that is not heard of counts as dead.

    Raises:
        `ValueError`: If the environment variable is no positive number.
    """
    text = os.environ.get(LIMIT_VARIABLE, "")
    try:
        seconds = float(text) if text else DEFAULT_LIMIT
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ValueError(f"{LIMIT_VARIABLE} must be a positive number of seconds, got {text!r}")
    return seconds


class Heartbeat:
    """Says that this process lives, and notices that another one failed or died; all processes make it.

    Args:
        store (`Store`):
            The key-value store of the process group.
        rank (`int`):
            Number of this process.
        size (`int`):
            Number of processes.
        number (`int`):
            Number of this heartbeat, the same on all processes and different from those before.
        limit (`float`):
            Seconds after which a process that is not heard of counts as dead.
    """

    def __init__(self, store: Store, rank: int, size: int, number: int, limit: float) -> None:
        self.rank, self.size, self.limit = rank, size, limit
        # A copy has a connection of its own: requests over one connection wait for each other.
        self._store = PrefixStore(f"itl_hf/heartbeat/{number}", store.clone())  # type: ignore[attr-defined]
        self._store.set_timeout(timedelta(seconds=limit))
        self._keys = [f"beat/{other}" for other in range(size)] + ["failures"]
        #: What happened to another process; `None` as long as all is well.
        self.loss: str | None = None
        self.has_published = False
        #: How many contexts want to know of processes that are not heard of. Failures always count.
        self.num_watchers = 0
        self._has_ended = threading.Event()
        self._last_answer = time.monotonic()
        self._last_changes: dict[int, tuple[int, float]] = {}
        self._lock = threading.Lock()
        for key in self._keys:
            self._store.add(key, 0)  # so that all can be read
        self._store.add(self._keys[rank], 1)
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._exchange, self._guard)]

    def start(self) -> None:
        """Starts the two threads: one that asks the store, and one that notices if it does not answer."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the threads; the first one says that this process has left."""
        self._has_ended.set()
        self._threads[0].join(timeout=_LEAVE_SECONDS)

    def publish(self, text: str) -> None:
        """Writes the error of this process into the store, and waits some seconds until the others have read it.

        Args:
            text (`str`):
                What happened; a sentence that names this process.
        """
        if self.has_published:
            return
        self.has_published = True
        with contextlib.suppress(RuntimeError, ValueError):  # the process that holds the store has ended
            self._store.set(self._reader_key(self.rank), "")
            self._store.set(f"failure/{self._store.add('claims', 1)}", text)
            self._store.add("failures", 1)
            self._wait_for_readers()

    def wait_for_loss(self) -> str | None:
        """Returns what happened to another process, once it is known; `None` if it is not within some seconds."""
        deadline = time.monotonic() + _LOSS_SECONDS
        while self.loss is None and time.monotonic() < deadline:
            time.sleep(_INTERVAL / 5)
        return self.loss

    def _wait_for_readers(self) -> None:
        """The store may end with this process, which therefore waits until the others have read why."""
        deadline = time.monotonic() + _ANSWER_SECONDS
        while time.monotonic() < deadline and self.loss is None:
            beats = self._read()[:-1]
            if all(beat <= 0 or self._store.check([self._reader_key(other)]) for other, beat in enumerate(beats)):
                return
            time.sleep(_INTERVAL / 2)

    @staticmethod
    def _reader_key(rank: int) -> str:
        return f"reader/{rank}"

    def _read(self) -> list[int]:
        return [int(value) for value in self._store.multi_get(self._keys)]

    def _exchange(self) -> None:
        is_told = False
        try:
            while not self._has_ended.wait(_INTERVAL):
                self._store.add(self._keys[self.rank], 1)
                *beats, num_failures = self._read()
                self._last_answer = time.monotonic()
                if num_failures and not is_told and not self.has_published:
                    is_told = True
                    self._note(self._store.get("failure/1").decode())
                    self._store.set(self._reader_key(self.rank), "")
                self._compare(beats)
            self._store.set(self._keys[self.rank], str(_LEFT))
        except (RuntimeError, ValueError) as error:
            self._note(f"the connection to the process that the others meet at was lost ({_first_line(error)})")

    def _compare(self, beats: list[int]) -> None:
        now = time.monotonic()
        for other, beat in enumerate(beats):
            last_beat, change_time = self._last_changes.get(other, (None, now))
            if beat != last_beat:
                self._last_changes[other] = (beat, now)
            elif beat > 0 and now - change_time > self.limit and self.num_watchers:
                self._note(
                    f"process {other} has not been heard of for {self.limit:.0f} seconds: it hangs, its machine is "
                    "down, or the link to it is cut"
                )

    def _guard(self) -> None:
        while not self._has_ended.wait(_INTERVAL) and self.loss is None:
            if self.num_watchers and time.monotonic() - self._last_answer > self.limit:
                self._note(
                    f"the process that the others meet at has not answered for {self.limit:.0f} seconds: its machine "
                    "is down, or the link to it is cut"
                )
        if self.loss is not None and not self._has_ended.wait(GRACE_SECONDS):
            # The main thread waits for a process that will never come.
            print(f"itl-hf: {self.loss}. Finished work is kept: run the command again.", file=sys.stderr, flush=True)
            os._exit(1)

    def _note(self, loss: str) -> None:
        with self._lock:
            self.loss = loss if self.loss is None else self.loss


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
