"""Detection of failed processes: contexts in which no process waits for one that has failed, was killed or is silent.

It runs the heartbeat (`itl_hf.heartbeat`) while a context is open, and turns the loss of another process into an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch.distributed as dist
from torch.distributed.distributed_c10d import _get_default_store

from itl_hf.distributed import failure_text, initialize, rank, world_size
from itl_hf.heartbeat import Heartbeat, time_limit

#: What is said of a process that ended before it could say why.
NO_ERROR_MESSAGE = (
    "ended without an error message: it was killed, or ran out of memory. Run the command again: finished work is kept."
)


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
            raise OtherProcessFailed(failure_cause(error), joins_next_gather=False) from error
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
    _heartbeat.publish(failure_text(error))


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


def process_loss() -> str | None:
    """Returns what happened to another process, `None` as long as all is well. Not a collective."""
    return None if _heartbeat is None else _heartbeat.loss


def failure_cause(error: BaseException) -> str:
    """Returns why a collective within `watch` failed: what another process said, or else that it was killed.

    Args:
        error (`BaseException`):
            The error of the collective.
    """
    assert _heartbeat is not None
    return _heartbeat.wait_for_loss() or f"another process {NO_ERROR_MESSAGE} ({str(error).partition(chr(10))[0]})"


def _is_of_a_collective(error: BaseException) -> bool:
    """Returns whether the error says that a collective or the key-value store failed: that another process ended."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error))
