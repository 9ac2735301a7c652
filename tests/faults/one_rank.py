"""`itl-hf` with one process of several that dies or raises: `torchrun ... -m tests.faults.one_rank FATE RANK WORDS`.

The fate meets it while it embeds its second batch of rows, or before its third step of training.
"""

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


def meet(fate: str, rank: int) -> None:
    """Plans the fate of this process, if it is the one."""
    import trl

    from itl_hf import HiddenStates

    if int(os.environ["RANK"]) != rank:
        return
    _call_at(HiddenStates, "embed_prepared", 1, FATES[fate])
    _call_at(trl.SFTTrainer, "training_step", 2, FATES[fate])


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

    fate, rank, *sys.argv = sys.argv[1:]
    sys.argv = ["itl-hf", *sys.argv]
    meet(fate, int(rank))
    itl_hf()


if __name__ == "__main__":
    main()
