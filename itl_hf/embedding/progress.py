"""How far the work is, on the first process: rows and tokens per second of all processes, and the time left."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np
from tqdm.auto import tqdm


def bars_wanted() -> bool:
    """Whether progress bars may show: not with TQDM_DISABLE=1 in the environment, tqdm's own switch."""
    return os.environ.get("TQDM_DISABLE", "") in ("", "0")


class Progress:
    """A bar of rows.

    Args:
        description (`str`):
            Its label.
        total (`int`, *optional*):
            Rows of the finished work; `None` for a stream.
        done (`int`):
            Rows that were there before.
        shown (`bool`):
            Whether this process is the one that shows it.
        elsewhere (`Sequence` of lists of (`Path`, `int`), *optional*):
            For each other process the files that it will write, in order, and their rows: how the bar knows of their
            work without asking them.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        done: int,
        shown: bool,
        elsewhere: Sequence[Sequence[tuple[Path, int]]] = (),
    ) -> None:
        wanted = shown and (total is None or done < total) and bars_wanted()
        # `None` shows it on terminals alone.
        self._bar = tqdm(
            total=total, initial=done, desc=description, unit="row", smoothing=0.1, disable=None if wanted else True
        )
        # A damaged file that is to be replaced says nothing about the work on it.
        self._elsewhere = [deque(item for item in files if not item[0].exists()) for files in elsewhere if wanted]
        self._rows = self._tokens = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._bar.total is not None:
            self._bar.update(self._bar.total - self._bar.n)
        self._bar.close()

    def rows(self, count: int) -> None:
        """So many more rows are done here."""
        self._rows += count
        self._bar.update(count)

    def found(self, count: int) -> None:
        """So many rows of a stream were there already: they count as done, and not as speed."""
        if not self._bar.disable:
            self._bar.initial += count
        self._bar.update(count)

    def shard(self, tokens: np.ndarray | None) -> None:
        """A shard is saved; `tokens` of each of its rows, where they are known."""
        for files in self._elsewhere:
            while files and files[0][0].exists():
                self._bar.update(files.popleft()[1])
        if tokens is not None:
            self._tokens += int(tokens.sum())
        if self._tokens and self._rows and not self._bar.disable:
            # As many tokens a row as here, at the rate of all processes.
            rate = (self._bar.n - self._bar.initial) / max(self._bar.format_dict["elapsed"], 1e-9)
            self._bar.set_postfix_str(f"{rate * self._tokens / self._rows:,.0f} tokens/s")
