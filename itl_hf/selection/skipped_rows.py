"""Rows that cannot be read and were left out: the picks keep the row numbers of the whole pool."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from itl_hf.selection.embed_job import EmbedJob
from itl_hf.selection.feature_arrays import Features, as_rows
from itl_hf.selection.result.assemble import SelectionInputs
from itl_hf.selection.shortlist.options import Shortlist
from itl_hf.selection.shortlist.two_stage import EmbeddedRows
from itl_hf.text.bad_rows import BadRows


@dataclass(frozen=True)
class SkippedRows:
    """The rows of pool and targets that were left out.

    Args:
        pool (`BadRows`):
            Those of the pool.
        targets (`BadRows`):
            Those of the targets.
    """

    pool: BadRows
    targets: BadRows

    @classmethod
    def of(cls, pool_job: EmbedJob, target_job: EmbedJob, shortlist: Shortlist | None) -> SkippedRows:
        """Returns the rows that reading pool and targets left out.

        Raises:
            `ValueError`: If the shortlist is made by another embedder, which reads the whole pool.
        """
        rows = cls(pool_job.reading.bad_rows, target_job.reading.bad_rows)
        if len(rows.pool) and shortlist is not None and shortlist.embedder is not None:
            raise ValueError(
                f"pool: {rows.pool.message(len(pool_job.dataset))}\non_bad_rows='skip' does not go with a shortlist "
                "by another embedder. Leave the rows out of the pool: pool.select(...)"
            )
        return rows

    def num_open(self, num_rows: int, blocked_rows: Sequence[int]) -> int:
        """Number of rows that can be picked, given those that may not."""
        return num_rows - len({*self.pool.rows, *blocked_rows})

    def check(self, observed_rows: Sequence[int]) -> None:
        """Raises `ValueError` if the model was trained on a row that cannot be read."""
        unreadable = [row for row in observed_rows if row in self.pool]
        if unreadable:
            raise ValueError(f"already_selected: row {unreadable[0]} cannot be read, so that nothing is known of it")

    def embed_pool(
        self,
        inputs: SelectionInputs,
        pool_job: EmbedJob,
        embed: Callable[[EmbedJob], Features],
        blocked_rows: Sequence[int],
    ) -> SelectionInputs:
        """Embeds the rows of the pool that can be read, and adds the others to the record."""
        job = pool_job.without_bad_rows()
        inputs = dataclasses.replace(inputs, pool_features=embed(job))
        if len(self.targets) or len(self.pool):
            parts = {name: bad.to_json() for name, bad in (("pool", self.pool), ("targets", self.targets)) if len(bad)}
            entries = {**inputs.record_entries, "skipped": parts, "pool_rows": len(pool_job.dataset)}
            inputs = dataclasses.replace(inputs, record_entries=entries)
        if not len(self.pool):
            return inputs
        rows = np.setdiff1d(np.arange(len(pool_job.dataset)), self.pool.rows)
        may_be_picked = np.isin(rows, list(blocked_rows), invert=True)
        return dataclasses.replace(
            inputs, embedded=EmbeddedRows(rows, may_be_picked, np.asarray(as_rows(inputs.pool_features, "pool")[:]))
        )
