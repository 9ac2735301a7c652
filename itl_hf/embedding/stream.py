"""Shards of a stream, whose number of rows is unknown until it ends.

Shard k holds the rows k R to (k + 1) R - 1 for shards of R rows, whichever process embeds it, and stores their hash: a
later run checks that the stream yields the same rows. Every process reads the whole stream and embeds its own shards.
Equal rows are embedded once within a shard, and stored each time: finding them across shards would require all rows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from itl_hf.embedding.row_keys import RowKeys, distinct_rows, keys_of
from itl_hf.embedding.work import ShardTask
from itl_hf.text import TEXT_COLUMNS, Row, row_format
from itl_hf.text.recognize import canonical

if TYPE_CHECKING:
    from datasets import IterableDataset

    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.embedding.store.feature_store import FeatureStore
    from itl_hf.processes import Processes


class StreamReader:
    """Reads a stream and yields the shards that are not in the store, those of one process.

    Args:
        stream (`IterableDataset`):
            Rows as `itl_hf.text.row_format` describes them, the same in the same order each time.
        store (`FeatureStore`):
            Where shards are stored.
        embedder (`Embedder`):
            Its `check` is called with the rows to embed.
        processes (`Processes`):
            Process r of n gets the shards r, r + n, r + 2n, ...
        on_stored_rows (`Callable[[int], None]`):
            Called with the number of rows of each shard that is in the store already.
    """

    def __init__(
        self,
        stream: IterableDataset,
        store: FeatureStore,
        embedder: Embedder,
        processes: Processes,
        on_stored_rows: Callable[[int], None],
    ) -> None:
        self.stream, self.store, self.embedder, self.processes = stream, store, embedder, processes
        self.on_stored_rows = on_stored_rows
        #: Rows read so far; the length of the stream after `tasks` has ended.
        self.num_rows = 0

    def tasks(self) -> Iterator[ShardTask]:
        """Yields the shards to embed, in order.

        Raises:
            `ValueError`: If a row cannot be read, or the rows differ from those that a stored shard was made from.
        """
        source: Iterable[Any] = self.stream.with_format(None)
        stream_rows = iter(source)
        for shard in itertools.count():
            block = list(itertools.islice(stream_rows, self.store.shard_rows))
            if not block:
                break
            first_row, self.num_rows = self.num_rows, self.num_rows + len(block)
            if self.store.rows is not None and first_row >= self.store.rows:
                raise ValueError(
                    f"the stream has more rows than the {self.store.rows} that {self.store.directory} was finished "
                    "with. Choose another directory, or delete this one."
                )
            if shard % self.processes.size == self.processes.rank:
                task = self._task(shard, first_row, [_select_text(row, first_row + i) for i, row in enumerate(block)])
                if task is not None:
                    yield task
        if self.num_rows == 0:
            raise ValueError("the stream has no rows.")

    def _task(self, shard: int, first_row: int, rows: list[Row]) -> ShardTask | None:
        keys = RowKeys(TEXT_COLUMNS, keys_of(rows))
        stored_hash = self.store.rows_hash(shard)
        if stored_hash is None:
            self.embedder.check(rows, first_row)
            index = keys.index()
            distinct = distinct_rows(index, len(rows))
            return ShardTask(shard, first_row + distinct, [rows[i] for i in distinct], index, keys.hash)
        if stored_hash != keys.hash:
            raise ValueError(
                f"rows {first_row} to {first_row + len(rows) - 1} of the stream are not those that "
                f"{self.store.path(shard)} was made from. A stream must give the same rows in the same order (a "
                "shuffle needs the same seed and epoch). Delete the directory or choose another."
            )
        self.on_stored_rows(len(rows))
        return None


def _select_text(row: Row, number: int) -> Row:
    row = canonical(row)
    try:
        row_format(list(row))
    except ValueError as error:
        raise ValueError(f"row {number} of the stream: {error}") from error
    return {name: value for name, value in row.items() if name in TEXT_COLUMNS}
