"""The few collectives that selection needs, over `torch.distributed`; on one process they do nothing.

Processes come from `torchrun` or `accelerate launch`. Nothing here starts, finds or restarts a process.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def rank() -> int:
    """This process's number, 0 when there is one."""
    return dist.get_rank() if _active() else 0


def world_size() -> int:
    """How many processes there are."""
    return dist.get_world_size() if _active() else 1


def _active() -> bool:
    return dist.is_available() and dist.is_initialized()


def _device() -> torch.device:
    """NCCL moves GPU tensors only; gloo takes those of the CPU."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, in order of rank; each may bring another number of them, (B, ...) -> (sum B, ...)."""
    if world_size() == 1:
        return rows
    device = _device()
    mine = rows.to(device).contiguous()
    count = torch.tensor([len(mine)], device=device)
    counts = [torch.zeros_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    largest = max(int(other) for other in counts)
    padded = torch.cat([mine, mine.new_zeros(largest - len(mine), *mine.shape[1:])])
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[: int(other)] for part, other in zip(parts, counts, strict=True)]).to(rows.device)


def total(values: Tensor) -> Tensor:
    """Sum over processes, elementwise."""
    if world_size() == 1:
        return values
    moved = values.to(_device())
    dist.all_reduce(moved)
    return moved.to(values.device)


def from_first(values: Tensor) -> Tensor:
    """The first process's values, on every process: what all must agree on to the last bit."""
    if world_size() == 1:
        return values
    moved = values.to(_device()).contiguous()
    dist.broadcast(moved, src=0)
    return moved.to(values.device)


def raise_together(error: BaseException | None) -> None:
    """Raises on every process if any of them failed, so that none is left waiting for the others.

    Raises:
        The error itself where it happened, `RuntimeError` with its text elsewhere.
    """
    if world_size() == 1:
        if error is not None:
            raise error
        return
    gathered: list[str | None] = [None] * world_size()
    dist.all_gather_object(gathered, None if error is None else f"{type(error).__name__}: {error}")
    if error is not None:
        raise error
    for number, message in enumerate(gathered):
        if message is not None:
            raise RuntimeError(f"process {number} failed: {message}")
