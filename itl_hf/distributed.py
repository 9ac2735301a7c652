"""Collectives over `torch.distributed` that selection and embedding use; with one process they return their input.

A collective is called by all processes at the same place of the program; a process that leaves one out makes the others
wait. Processes are started by `torchrun` or `accelerate launch`. This module starts and restarts none.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor

from itl_hf.launch import check_launch, launched_size, process_label

#: Seconds after which a process that waits for the others to start says so.
NOTE_SECONDS = 20.0


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
    dist.all_gather_object(messages, None if error is None else failure_text(error))
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


def _collective_device() -> torch.device:
    """Returns the device that tensors must be on: NCCL exchanges GPU tensors only, gloo those of the CPU."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def failure_text(error: BaseException | None) -> str:
    """Returns what the other processes say about an error of this one."""
    if isinstance(error, SystemExit):
        return f"{process_label(rank())} ended with status {error.code}: its own output says why"
    return f"{process_label(rank())} failed: {type(error).__name__}: {error}"
