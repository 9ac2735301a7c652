"""The progress bar of embedding: rows and tokens per second of all processes, and the remaining time.

Terminals and notebooks show a bar. Where stderr is a file, as in the log of a job, a line is written every 30 seconds.
"""

from __future__ import annotations

import os
import sys
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from tqdm import tqdm as plain_tqdm
from tqdm.auto import tqdm

#: Seconds between two lines in a log.
LOG_SECONDS = 30.0


def progress_bars_enabled() -> bool:
    """Returns whether progress bars may be shown: not with tqdm's own variable TQDM_DISABLE=1 in the environment."""
    return os.environ.get("TQDM_DISABLE", "") in ("", "0")


def draws_bars() -> bool:
    """Returns whether a bar can be drawn: in a terminal, or in a notebook, whose output is no terminal."""
    is_notebook = any(kind.__module__ == "tqdm.notebook" for kind in tqdm.__mro__)
    return is_notebook or (sys.stderr is not None and sys.stderr.isatty())


class LogLines(plain_tqdm):  # type: ignore[type-arg]
    """Writes a line every `LOG_SECONDS`, and one at the end if there were others; nothing for shorter work."""

    def __init__(self, **options: Any) -> None:
        super().__init__(mininterval=LOG_SECONDS, delay=LOG_SECONDS, miniters=1, dynamic_ncols=False, **options)
        self.num_lines = 0

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        """Writes the state of the bar as a line."""
        self.num_lines += 1
        self.fp.write(f"{msg or self!s}\n")
        self.fp.flush()

    def close(self) -> None:
        """Writes the last line."""
        if not self.disable and self.num_lines:
            self.display()
        self.leave = False
        self.disable = True


class Progress:
    """A progress bar that counts rows.

    Args:
        description (`str`):
            Label of the bar.
        total (`int`, *optional*):
            Number of rows when all are embedded; `None` for a stream.
        stored_rows (`int`):
            Number of rows that were embedded by earlier runs.
        is_visible (`bool`):
            Whether this process shows the bar.
        other_files (`Sequence` of lists of (`Path`, `int`), *optional*):
            For each other process the files that it will write, in order, with their number of rows. The bar counts
            the rows of other processes by the files that exist, without communication.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        stored_rows: int,
        is_visible: bool,
        other_files: Sequence[Sequence[tuple[Path, int]]] = (),
    ) -> None:
        shows_bar = is_visible and (total is None or stored_rows < total) and progress_bars_enabled()
        kind: Any = tqdm if draws_bars() else LogLines
        self._bar = kind(
            total=total, initial=stored_rows, desc=description, unit="row", smoothing=0.1, disable=not shows_bar
        )
        # A file that exists already is damaged and will be replaced: that it exists does not mean that it is finished.
        self._other_files = [
            deque(item for item in files if not item[0].exists()) for files in other_files if shows_bar
        ]
        self._rows = self._tokens = 0

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._bar.total is not None:
            self._bar.update(self._bar.total - self._bar.n)
        self._bar.close()

    def add_rows(self, count: int) -> None:
        """Counts `count` more rows that this process has embedded."""
        self._rows += count
        self._bar.update(count)

    def add_stored_rows(self, count: int) -> None:
        """Counts `count` rows of a stream that earlier runs have embedded; they do not count for the speed."""
        if not self._bar.disable:
            self._bar.initial += count
        self._bar.update(count)

    def finish_shard(self, tokens: np.ndarray | None) -> None:
        """Updates the bar after a shard was saved.

        Args:
            tokens (`np.ndarray`, *optional*):
                Number of tokens of each row of the shard.
        """
        for files in self._other_files:
            while files and files[0][0].exists():
                self._bar.update(files.popleft()[1])
        if tokens is not None:
            self._tokens += int(tokens.sum())
        if self._tokens and self._rows and not self._bar.disable:
            # Rows per second of all processes times tokens per row of this process.
            rate = (self._bar.n - self._bar.initial) / max(self._bar.format_dict["elapsed"], 1e-9)
            postfix = f"{rate * self._tokens / self._rows:,.0f} tokens/s"
            self._bar.set_postfix_str(postfix, refresh=not isinstance(self._bar, LogLines))
