"""`itl-hf` with one process that dies or raises: `torchrun ... -m tests.faults.one_rank FATE RANK PLACE embed ...`."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from typing import Any


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fail() -> None:
    raise ValueError("this process fails")


FATES: dict[str, Callable[[], None]] = {"dies": die, "raises": fail}


def meet(fate: str, rank: int, place: str) -> None:
    """Plans the fate of this process, if it is the one.

    Args:
        fate: `dies` or `raises`.
        rank: number of the process.
        place: `embed`, in its second batch of rows; `select`, between two collective steps.
    """
    from itl_hf import HiddenStates
    from itl_hf.processes import Processes

    places: dict[str, tuple[type, str, int]] = {
        "embed": (HiddenStates, "embed_prepared", 1),
        "select": (Processes, "call_and_gather", 12),
    }
    if int(os.environ["RANK"]) == rank:
        _call_at(*places[place], FATES[fate])


def _call_at(owner: type, name: str, number: int, call: Callable[[], None]) -> None:
    method, count = getattr(owner, name), 0

    def counted(*arguments: Any, **options: Any) -> Any:
        nonlocal count
        if count == number:
            call()
        count += 1
        return method(*arguments, **options)

    setattr(owner, name, counted)


def main() -> None:
    from itl_hf.cli.main import main as itl_hf

    fate, rank, place, *words = sys.argv[1:]
    sys.argv = ["itl-hf", *words]
    meet(fate, int(rank), place)
    itl_hf()


if __name__ == "__main__":
    main()
