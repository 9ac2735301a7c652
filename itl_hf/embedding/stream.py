"""Shards from a stream: rows without numbers, of which nobody knows how many there are.

Shard k is made from the rows k R to (k + 1) R - 1, whoever reads them, and keeps their hash: when the work is taken up
again, the stream must give the same rows. Every process reads the whole stream and embeds its own shards. Equal rows
are embedded once within a shard, and stored each time: to find them across shards, all rows would have to be known.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.embedding.row_keys import RowKeys, keys_of
from itl_hf.embedding.work import Task
from itl_hf.text import TEXT_COLUMNS, Row, row_format

if TYPE_CHECKING:
    from datasets import IterableDataset

    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.embedding.store.feature_store import FeatureStore


class StreamReader:
    """The shards of one process that a stream still lacks.

    Args:
        stream (`IterableDataset`):
            Rows as `itl_hf.text.row_format` describes them, the same in the same order each time.
        store (`FeatureStore`):
            Where shards are.
        embedder (`Embedder`):
            Asked to check rows, if it can.
        share (`tuple[int, int]`):
            This process's number, and how many there are.
        found (`Callable[[int], None]`):
            Told of rows whose shard is there already.
    """

    def __init__(
        self,
        stream: IterableDataset,
        store: FeatureStore,
        embedder: Embedder,
        share: tuple[int, int],
        found: Callable[[int], None],
    ) -> None:
        self.stream, self.store, self.embedder, self.share, self.found = stream, store, embedder, share, found
        #: Rows of the stream, known when `tasks` has ended.
        self.rows = 0

    def tasks(self) -> Iterator[Task]:
        """Shards to be made, in order.

        Raises:
            `ValueError`: A row that cannot be read, or rows that are not those of a shard that is there.
        """
        rank, size = self.share
        source: Iterable[Any] = self.stream.with_format(None)
        waiting = iter(source)
        for shard in itertools.count():
            block = list(itertools.islice(waiting, self.store.shard_rows))
            if not block:
                break
            first, self.rows = self.rows, self.rows + len(block)
            self._require_room(first)
            if shard % size == rank:
                task = self._task(shard, first, [_text(row, first + i) for i, row in enumerate(block)])
                if task is not None:
                    yield task
        if self.rows == 0:
            raise ValueError("the stream has no rows.")

    def _task(self, shard: int, first: int, rows: list[Row]) -> Task | None:
        keys = RowKeys(TEXT_COLUMNS, keys_of(rows))
        there = self.store.rows_hash(shard)
        if there is None:
            self.embedder.check(rows, first)
            places = keys.index()
            kept = np.arange(len(rows)) if places is None else np.unique(places, return_index=True)[1]
            return Task(shard, first + kept, [rows[i] for i in kept], places, keys.hash)
        if there != keys.hash:
            raise ValueError(
                f"rows {first} to {first + len(rows) - 1} of the stream are not those that "
                f"{self.store.path(shard)} was made from. A stream must give the same rows in the same order (a "
                "shuffle needs the same seed and epoch). Delete the directory or choose another."
            )
        self.found(len(rows))
        return None

    def _require_room(self, first: int) -> None:
        if self.store.rows is not None and first >= self.store.rows:
            raise ValueError(
                f"the stream has more rows than the {self.store.rows} that {self.store.directory} was finished with. "
                "Choose another directory, or delete this one."
            )


def _text(row: Row, number: int) -> Row:
    try:
        row_format(list(row))
    except ValueError as error:
        raise ValueError(f"row {number} of the stream: {error}") from error
    return {name: value for name, value in row.items() if name in TEXT_COLUMNS}
