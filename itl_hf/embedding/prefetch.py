"""Runs an iterator in a thread, so that the next rows are tokenized while the model computes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar, cast

Item = TypeVar("Item")

#: Seconds after which a waiting thread checks whether it should stop.
_POLL_SECONDS = 0.05
#: Most seconds to wait for the thread at the end.
_JOIN_SECONDS = 30.0
_END = object()


def prefetch(items: Iterator[Item], depth: int = 1) -> Generator[Item, None, None]:
    """Yields the same items in the same order; a thread computes up to `depth` + 1 of them in advance.

    An error that `items` raises is raised in place of its item. To stop early, close the generator
    (`contextlib.closing`): the thread ends after the item that it is computing.

    Args:
        items (`Iterator`):
            Runs in the thread only.
        depth (`int`, *optional*, defaults to 1):
            Most items that wait in the queue.

    Example:
        >>> list(prefetch(iter([1, 2, 3])))
        [1, 2, 3]
    """
    waiting: queue.Queue[tuple[object, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()

    def put(item: object, error: BaseException | None = None) -> None:
        while not stop.is_set():
            try:
                return waiting.put((item, error), timeout=_POLL_SECONDS)
            except queue.Full:
                continue

    def produce() -> None:
        try:
            for item in items:
                put(item)
                if stop.is_set():
                    return
            put(_END)
        except BaseException as error:  # of any kind: the consumer raises it
            put(_END, error)

    thread = threading.Thread(target=produce, name="itl_hf-prefetch", daemon=True)
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
        thread.join(_JOIN_SECONDS)
