"""Work for the model, made ready by a thread while the model is busy."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import TypeVar, cast

Item = TypeVar("Item")

#: How often a waiting thread looks whether it is still wanted, and how long it is waited for at the end, in seconds.
_GLANCE, _FAREWELL = 0.05, 30.0
_END = object()


def ahead(items: Iterator[Item], depth: int = 1) -> Iterator[Item]:
    """The same items in the same order, up to `depth` + 1 of them made in a thread before they are asked for.

    An error of `items` comes out where its item would have. Close the generator (`contextlib.closing`) to stop early:
    the thread ends with the item that it is at.

    Args:
        items (`Iterator`):
            Runs in the thread alone.
        depth (`int`, *optional*, defaults to 1):
            Items that wait, at most.

    Example:
        >>> list(ahead(iter([1, 2, 3])))
        [1, 2, 3]
    """
    waiting: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: object, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                return waiting.put((item, error), timeout=_GLANCE)
            except queue.Full:
                continue

    def work() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(_END)
        except BaseException as error:  # the reader's to raise, whatever it is
            put(_END, error)

    thread = threading.Thread(target=work, name="itl_hf-prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item, error = waiting.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield cast(Item, item)
    finally:
        stop.set()
        thread.join(_FAREWELL)
