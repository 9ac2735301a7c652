"""The few collectives that selection and embedding need, over `torch.distributed`; on one process they do nothing.

Processes come from `torchrun` or `accelerate launch`. Nothing here starts or restarts a process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import _get_default_store

Result = TypeVar("Result")

#: How long a process may wait for the others at the end of work that took each of them a different time.
PATIENCE = timedelta(days=7)
_SILENT = "ended without a word: it was killed, or ran out of memory. Run the command again: finished work is kept."


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


def join() -> None:
    """Meet the other processes, if a launcher started several and nobody has done so yet."""
    launched = "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1
    if not launched or not dist.is_available() or dist.is_initialized():
        return
    from accelerate import PartialState

    # Without `cpu` it makes no group on a machine that has no accelerator.
    PartialState(cpu=not torch.accelerator.is_available())
    if not dist.is_initialized():  # made earlier, when it was told of one process
        dist.init_process_group("gloo")


class OtherProcessFailed(RuntimeError):
    """This process stopped because of another, which will `meet` the rest once more or not."""

    def __init__(self, message: str, meets: bool) -> None:
        super().__init__(message)
        self.meets = meets


class Processes:
    """All processes, for long work without collectives in its midst: use it as a context, on all of them.

    A process that fails leaves a note; the others look for one between two pieces of work and stop as well. A process
    that dies without a word is noticed at the next meeting, and by the launcher. Waiting there has no short limit, as
    the default group's has: one process may be done hours before another.

    Example:
        >>> with Processes() as processes:
        ...     processes.together(lambda: processes.rank)
        [0]
    """

    _opened = 0

    def __init__(self) -> None:
        join()
        self.rank, self.size = rank(), world_size()
        self._group: Any = None

    def __enter__(self) -> Processes:
        if self.size > 1:
            Processes._opened += 1
            self._note = f"itl_hf/failed/{Processes._opened}"
            self._board = _get_default_store()
            self._group = dist.new_group(backend="gloo", timeout=PATIENCE)
        return self

    def __exit__(self, *_: object) -> None:
        if self._group is not None:
            dist.destroy_process_group(self._group)
            # Its threads end with its last reference, which a traceback could keep until the interpreter is gone.
            self._group = None

    def together(self, call: Callable[[], Result]) -> list[Result]:
        """Runs `call` on every process and meets: what it returned, by rank.

        Raises:
            The error of `call` where it happened, `OtherProcessFailed` with its text on the other processes.
        """
        if self.size == 1:
            return [call()]
        failure: Exception | None = None
        result: Result | None = None
        try:
            result = call()
        except BaseException as error:
            self._leave_note(error)
            # An interrupt waits for nobody, and nobody waits for the process that it reached.
            if not isinstance(error, Exception) or (isinstance(error, OtherProcessFailed) and not error.meets):
                raise
            failure = error
        gathered = self._exchange((result, None if failure is None else _described(failure)), failure)
        if failure is not None:
            raise failure
        for number, (_, message) in enumerate(gathered):
            if message is not None and not message.startswith(OtherProcessFailed.__name__):
                raise OtherProcessFailed(f"process {number} failed: {message}", meets=True)
        return [result for result, _ in gathered]

    def check(self) -> None:
        """Stops here if another process has failed. Costs a look at the board, not a meeting."""
        if self.size == 1:
            return
        try:
            note = self._board.get(self._note).decode() if self._board.check([self._note]) else None
        except RuntimeError as error:
            raise OtherProcessFailed(f"another process {_SILENT} ({error})", meets=False) from error
        if note is not None:
            kind, message = note.split(" ", 1)
            raise OtherProcessFailed(message, meets=kind == "error")

    def _leave_note(self, error: BaseException) -> None:
        if isinstance(error, OtherProcessFailed):
            return
        try:
            kind = "error" if isinstance(error, Exception) else "interrupt"
            self._board.set(self._note, f"{kind} process {self.rank} failed: {_described(error)}")
        except (RuntimeError, ValueError):  # the process that keeps the board is gone
            return

    def _exchange(self, value: Any, failure: Exception | None) -> list[Any]:
        gathered: list[Any] = [None] * self.size
        try:
            dist.all_gather_object(gathered, value, group=self._group)
        except RuntimeError as error:
            if failure is not None:
                raise failure from None
            raise OtherProcessFailed(f"another process {_SILENT} ({error})", meets=False) from error
        return gathered


def _described(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"
