"""Collectives over `torch.distributed` that selection and embedding use; with one process they return their input.

A collective is called by all processes at the same place of the program; a process that leaves one out makes the others
wait. Processes are started by `torchrun` or `accelerate launch`. This module starts and restarts none.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _get_default_store

from itl_hf.heartbeat import Heartbeat, time_limit
from itl_hf.launch import check_launch, launched_size, process_label

Result = TypeVar("Result")

#: How long a process waits for the others in `Processes`, where each process may need a different time for its share.
WAIT_TIMEOUT = timedelta(days=7)
#: Seconds after which a process that waits for the others to start says so.
NOTE_SECONDS = 20.0
_NO_ERROR_MESSAGE = (
    "ended without an error message: it was killed, or ran out of memory. Run the command again: finished work is kept."
)


def rank() -> int:
    """Returns the number of this process, 0 if there is only one. Not a collective."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Returns the number of processes. Not a collective."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def gather_rows(rows: Tensor) -> Tensor:
    """Concatenates the rows of all processes. Collective: all processes must call it.

    Args:
        rows (`Tensor`):
            Shape (B, ...). `B` may differ between processes; the other dimensions and the type must be equal.

    Returns:
        `Tensor`: Shape (sum of all `B`, ...), in the order of ranks, equal on all processes, on the device of `rows`.
    """
    if world_size() == 1:
        return rows
    device = _collective_device()
    own_rows = rows.to(device).contiguous()
    count = torch.tensor([len(own_rows)], device=device)
    counts = [torch.zeros_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    largest = max(int(other) for other in counts)
    padded = torch.cat([own_rows, own_rows.new_zeros(largest - len(own_rows), *own_rows.shape[1:])])
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(other)] for part, other in zip(parts, counts, strict=True)]).to(rows.device)


def sum_over_processes(values: Tensor) -> Tensor:
    """Adds the values of all processes elementwise. Collective: all processes must call it.

    Args:
        values (`Tensor`):
            Any shape, the same on all processes.

    Returns:
        `Tensor`: The sum, of the same shape and on the same device.
    """
    if world_size() == 1:
        return values
    device_values = values.to(_collective_device())
    dist.all_reduce(device_values)
    return device_values.to(values.device)


def broadcast_from_first(values: Tensor) -> Tensor:
    """Returns the values of process 0 on every process, equal to the last bit. Collective: all processes must call it.

    Args:
        values (`Tensor`):
            Any shape, the same on all processes. The values themselves are used on process 0 only.

    Returns:
        `Tensor`: The values of process 0, of the same shape and on the same device.
    """
    if world_size() == 1:
        return values
    device_values = values.to(_collective_device()).contiguous()
    dist.broadcast(device_values, src=0)
    return device_values.to(values.device)


def raise_on_all(error: BaseException | None) -> None:
    """Raises on all processes if one of them failed, so that none waits for it. Collective: all processes must call it.

    Args:
        error (`BaseException`, *optional*):
            The error of this process, `None` if it succeeded.

    Raises:
        `BaseException`: `error` itself on the process that failed.
        `RuntimeError`: On the other processes, with the text of the error.
    """
    if world_size() == 1:
        if error is not None:
            raise error
        return
    messages: list[str | None] = [None] * world_size()
    dist.all_gather_object(messages, None if error is None else _failure_text(error))
    if error is not None:
        raise error
    for message in messages:
        if message is not None:
            raise RuntimeError(message)


def initialize() -> None:
    """Initializes the default process group, if a launcher started several processes and the program has not done it.

    Collective in that case: all processes must call it.

    Raises:
        `LaunchError`: If the launcher was asked for several processes, and this one would run alone; a `ValueError`.
    """
    if not dist.is_available() or dist.is_initialized():
        return
    check_launch()
    if launched_size() == 1:
        return
    from accelerate import PartialState

    with _note_after(NOTE_SECONDS, f"itl-hf: waiting for all {launched_size()} processes to start"):
        # Without `cpu`, `PartialState` makes no group on a machine that has no accelerator.
        PartialState(cpu=not torch.accelerator.is_available())
        if not dist.is_initialized():  # `PartialState` was made earlier in this process, for one process
            dist.init_process_group("gloo")


@contextlib.contextmanager
def _note_after(seconds: float, text: str) -> Iterator[None]:
    timer = threading.Timer(seconds, print, (text,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


_heartbeat: Heartbeat | None = None
_num_heartbeats = 0


@contextlib.contextmanager
def watch() -> Iterator[None]:
    """Context in which no process waits for one that has failed, was killed, or cannot be reached.

    It joins the process group first. If a process leaves it with an error, the others raise `OtherProcessFailed` with
    the text of that error; one that cannot, because it waits in a collective, is ended after some seconds. A process
    that is not heard of for a minute (`ITL_HF_PROCESS_TIMEOUT` seconds) counts as dead. Contexts may be nested; all
    processes must enter them in the same order. With one process it does nothing. It is also a decorator.

    Raises:
        `OtherProcessFailed`: If a collective failed because of another process.
    """
    global _heartbeat, _num_heartbeats
    initialize()
    if world_size() == 1:
        yield
        return
    outer = _heartbeat
    if outer is None:
        _num_heartbeats += 1
        _heartbeat = Heartbeat(_get_default_store(), rank(), world_size(), _num_heartbeats, time_limit())
        _heartbeat.start()
    heartbeat = _heartbeat
    assert heartbeat is not None
    heartbeat.num_watchers += 1
    try:
        yield
    except BaseException as error:
        if outer is None:  # within another context, the error may still be caught
            publish_failure(error)
        if _is_of_a_collective(error):
            raise OtherProcessFailed(_cause(heartbeat, error), joins_next_gather=False) from error
        raise
    finally:
        heartbeat.num_watchers -= 1
        if outer is None:
            _heartbeat = None
            heartbeat.stop()


def publish_failure(error: BaseException) -> None:
    """Publishes the error of this process; the other processes within `watch` then end. Not a collective.

    Args:
        error (`BaseException`):
            The error. One that says that another process failed is not passed on, nor is a `SystemExit` of status 0.
    """
    is_from_others = isinstance(error, OtherProcessFailed) or _is_of_a_collective(error)
    if _heartbeat is None or is_from_others or (isinstance(error, SystemExit) and not error.code):
        return
    _heartbeat.publish(_failure_text(error))


@contextlib.contextmanager
def pause_watch() -> Iterator[None]:
    """Context within `watch` in which a process may be silent for as long as it takes, such as training.

    A process that fails still ends the others.
    """
    heartbeat = _heartbeat
    if heartbeat is None:
        yield
        return
    num_watchers, heartbeat.num_watchers = heartbeat.num_watchers, 0
    try:
        yield
    finally:
        heartbeat.num_watchers += num_watchers


def call_on_first(function: Callable[[], Result]) -> Result:
    """Calls `function` on process 0 and returns its result on every process. Collective: all processes must call it.

    For what only one process can know, such as what is on its disk.

    Args:
        function (`Callable[[], Result]`):
            What to call. Its result must be picklable.

    Raises:
        `Exception`: The error of `function` on process 0.
        `OtherProcessFailed`: On the other processes, with the text of the error.
    """
    with Processes() as processes:
        results = processes.call_and_gather(lambda: function() if processes.rank == 0 else None)
    return results[0]  # type: ignore[return-value]


def _is_of_a_collective(error: BaseException) -> bool:
    """Returns whether the error says that a collective or the key-value store failed: that another process ended."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))


def _cause(heartbeat: Heartbeat, error: BaseException) -> str:
    """Returns why a collective failed: what another process said before it ended, or else that it was killed."""
    return heartbeat.wait_for_loss() or f"another process {_NO_ERROR_MESSAGE} ({str(error).partition(chr(10))[0]})"


def _collective_device() -> torch.device:
    """Returns the device that tensors must be on: NCCL exchanges GPU tensors only, gloo those of the CPU."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


class OtherProcessFailed(RuntimeError):
    """Raised on a process that stops because another process failed.

    Args:
        message (`str`):
            What happened on the other process.
        joins_next_gather (`bool`):
            Whether the failed process still takes part in the next `Processes.call_and_gather`.
    """

    def __init__(self, message: str, joins_next_gather: bool) -> None:
        super().__init__(message)
        self.joins_next_gather = joins_next_gather


class Processes:
    """Context for long work that each process does independently, with collectives only at its beginning and end.

    All processes must enter the context. A process that fails writes an error to the key-value store of the process
    group; the others read it between two pieces of work and stop as well. A process that is killed cannot write: the
    others notice it at the next `call_and_gather`, and so does the launcher. That call waits up to seven days, unlike
    the default group, since one process may finish hours before another.

    Example:
        >>> with Processes() as processes:
        ...     processes.call_and_gather(lambda: processes.rank)
        [0]
    """

    _num_contexts = 0

    def __init__(self) -> None:
        initialize()
        self.rank, self.size = rank(), world_size()
        self._group: Any = None

    def __enter__(self) -> Processes:
        self._watch = watch()
        self._watch.__enter__()
        if self.size > 1:
            Processes._num_contexts += 1
            self._error_key = f"itl_hf/failed/{Processes._num_contexts}"
            self._key_value_store = _get_default_store()
            self._group = dist.new_group(backend="gloo", timeout=WAIT_TIMEOUT)
        return self

    def __exit__(self, *error: Any) -> None:
        if self._group is not None:
            dist.destroy_process_group(self._group)
            # The group's threads end with its last reference, which a traceback may hold until the interpreter exits.
            self._group = None
        self._watch.__exit__(*error)

    def call_and_gather(self, function: Callable[[], Result]) -> list[Result]:
        """Calls `function` on every process and gathers what it returns. Collective: all processes must call it.

        Args:
            function (`Callable[[], Result]`):
                What to call. Its result must be picklable.

        Returns:
            `list[Result]`: The results of all processes, in the order of ranks, equal on all processes.

        Raises:
            `Exception`: The error of `function` on the process where it failed.
            `OtherProcessFailed`: On the other processes, with the text of the error.
        """
        if self.size == 1:
            return [function()]
        failure: Exception | None = None
        result: Result | None = None
        try:
            result = function()
        except BaseException as error:
            self._publish_error(error)
            # A process that was interrupted does not wait for the others, and they do not wait for it.
            if not isinstance(error, Exception) or (
                isinstance(error, OtherProcessFailed) and not error.joins_next_gather
            ):
                raise
            failure = error
        is_first_hand = failure is not None and not isinstance(failure, OtherProcessFailed)
        outcomes = self._gather_objects((result, _failure_text(failure) if is_first_hand else None), failure)
        if failure is not None:
            raise failure
        for _, message in outcomes:
            if message is not None:
                raise OtherProcessFailed(message, joins_next_gather=True)
        return [result for result, _ in outcomes]

    def check_others(self) -> None:
        """Raises if another process has failed. Not a collective: it reads one key and does not wait.

        Raises:
            `OtherProcessFailed`: If another process has failed.
        """
        if self.size == 1:
            return
        try:
            store = self._key_value_store
            text = store.get(self._error_key).decode() if store.check([self._error_key]) else None
        except RuntimeError as error:
            raise OtherProcessFailed(f"another process {_NO_ERROR_MESSAGE} ({error})", False) from error
        if text is not None:
            kind, message = text.split(" ", 1)
            raise OtherProcessFailed(message, joins_next_gather=kind == "error")
        if _heartbeat is not None and _heartbeat.loss is not None:
            raise OtherProcessFailed(_heartbeat.loss, joins_next_gather=False)

    def _publish_error(self, error: BaseException) -> None:
        if isinstance(error, OtherProcessFailed):
            return
        try:
            kind = "error" if isinstance(error, Exception) else "interrupt"
            self._key_value_store.set(self._error_key, f"{kind} {_failure_text(error)}")
        except (RuntimeError, ValueError):  # the process that holds the key-value store has ended
            return

    def _gather_objects(self, value: Any, failure: Exception | None) -> list[Any]:
        values: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(values, value, group=self._group)
        except RuntimeError as error:
            if failure is not None:
                raise failure from None
            assert _heartbeat is not None
            raise OtherProcessFailed(_cause(_heartbeat, error), False) from error
        return values


def _failure_text(error: BaseException | None) -> str:
    """Returns what the other processes say about an error of this one."""
    if isinstance(error, SystemExit):
        return f"{process_label(rank())} ended with status {error.code}: its own output says why"
    return f"{process_label(rank())} failed: {type(error).__name__}: {error}"
