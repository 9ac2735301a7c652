"""The processes of one command: they join before any of them reads input, and end together."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from itl_hf.launch import check_launch, launched_size

Result = TypeVar("Result")


@contextlib.contextmanager
def join_group() -> Iterator[None]:
    """Context of a whole command: if one of its processes fails, none of the others goes on or waits for it.

    Without a launcher it imports nothing and does nothing.

    Raises:
        `LaunchError`: If the launcher was asked for several processes, and this one would run alone.
    """
    check_launch()
    if launched_size() == 1:
        yield
        return
    from torch import distributed as torch_distributed

    from itl_hf.failure_detection import watch
    from itl_hf.processes import Processes

    with watch():
        try:
            yield
        except SystemExit as exit_error:
            if exit_error.code:
                raise
        with Processes() as processes:  # none leaves while another one may still fail
            processes.call_and_gather(lambda: None)
    torch_distributed.destroy_process_group()


def publish_failure(error: BaseException) -> None:
    """Publishes the error of this process; the other processes of the command then end."""
    if launched_size() > 1:
        from itl_hf import failure_detection

        failure_detection.publish_failure(error)


def call_on_each(function: Callable[[], Result]) -> Result:
    """Calls `function` on every process; if it fails on one of them, all of them end with its error.

    For what each process reads from its own machine. Collective: all processes must call it.

    Raises:
        `Exception`: The error of `function` on the process where it failed.
        `OtherProcessFailed`: On the other processes, with the text of the error and the machine's name.
    """
    if launched_size() == 1:
        return function()
    from itl_hf.processes import Processes

    results: list[Result] = []
    with Processes() as processes:
        processes.call_and_gather(lambda: results.append(function()))
    return results[0]


def call_on_first(function: Callable[[], Result]) -> Result:
    """Calls `function` on process 0 and returns its result on every process. Collective: all processes must call it.

    For what only one process can decide, such as whether a folder holds a selection already.

    Raises:
        `Exception`: The error of `function` on process 0.
        `OtherProcessFailed`: On the other processes, with the text of the error.
    """
    if launched_size() == 1:
        return function()
    from itl_hf import processes

    return processes.call_on_first(function)
