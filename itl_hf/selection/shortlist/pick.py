"""Picks from a shortlist with the search that picks from a whole pool: the rows on the list are made a pool of their
own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.pool import Pool
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.search.greedy import GreedyPicks
from itl_hf.search.limits import Limits
from itl_hf.selection.protocol import Acquisition, SelectionRequest, Texts
from itl_hf.selection.shortlist.indexed_rows import IndexedRows
from itl_hf.selection.shortlist.listed_rows import ListedRows
from itl_hf.selection.shortlist.options import Shortlist


class ShortlistedPool:
    """The rows of a pool that a selection picks from: all of them, or those on a shortlist.

    Args:
        pool (`Pool`):
            All rows, prepared.
        shortlist (`Shortlist`, *optional*):
            How many rows the list has; all rows are picked from if `None`.

    Attributes:
        pool (`Pool`):
            The rows to pick from, ascending by their number in the whole pool.
    """

    def __init__(self, pool: Pool, shortlist: Shortlist | None) -> None:
        self.whole_pool = self.pool = pool
        self.shortlist = shortlist
        self.listed_rows: ListedRows | None = None
        self.indices = np.arange(0)

    def make_list(
        self,
        kernel: Kernel,
        targets: Tensor,
        request: SelectionRequest,
        index: IndexedRows | None = None,
        weights: Tensor | None = None,
    ) -> None:
        """Makes the shortlist, if one was asked for.

        Args:
            kernel (`Kernel`):
                Its correlation says what is near.
            targets (`Tensor`):
                (m, d) prepared targets.
            request (`SelectionRequest`):
                The request to the acquisition, in numbers of the whole pool.
            index (`IndexedRows`, *optional*):
                An index of the pool.
            weights (`Tensor`, *optional*):
                (m,) weights of the targets, which get turns in proportion.
        """
        if self.shortlist is None:
            return
        earlier_rows = request.observed_rows[: 0 if request.replace else None]
        # A copy: the pool itself may be mapped to features of a kernel (`approximate`) once the list is made.
        pool = self.whole_pool.subset()
        first_turn = request.num_continued
        self.listed_rows = ListedRows(pool, kernel, targets, earlier_rows, first_turn, weights, index)
        self.num_first = self.shortlist.num_rows(request.availability.num_examples, self.whole_pool.num_rows)
        if self.listed_rows.grow(self._open_rows(request, ()), self.num_first):
            self._make_pool(self.listed_rows)

    def _make_pool(self, listed_rows: ListedRows) -> None:
        self.indices = np.sort(np.asarray(listed_rows.rows, dtype=np.int64))
        self.pool = listed_rows.pool.subset(self.indices.tolist())
        if self.whole_pool.feature_map is not None:
            self.pool.set_feature_map(self.whole_pool.feature_map)

    def share_feature_map(self) -> None:
        """Maps the whole pool as the rows on the list were mapped (`approximate`), so that both can be compared."""
        if self.pool is not self.whole_pool and self.pool.feature_map is not None:
            self.whole_pool.set_feature_map(self.pool.feature_map)

    def pick(self, acquisition: Acquisition, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Lets the acquisition pick, and returns the picks in numbers of the whole pool.

        If a budget or shares of groups leave no row on the list while the pool has further ones, the list grows by as
        many rows as it had at first, by turns among the rows that may still be picked, and the rows are picked again
        from the longer list.
        """
        if self.listed_rows is None or not self.listed_rows.rows:  # no row fits the budget: there are no picks
            return acquisition.pick(self.whole_pool, gp, request)
        while True:
            picks = acquisition.pick(self.pool, gp, self._own_request(request))
            picks = dataclasses.replace(picks, indices=self.indices[picks.indices].tolist())
            missing = request.availability.num_examples - len(picks.indices)
            is_open = self._open_rows(request, picks.indices)
            # Open rows on the list: the acquisition ended by itself (`stop_when`).
            if not missing or is_open[self.indices].any() or not self.listed_rows.grow(is_open, self.num_first):
                return picks
            self._make_pool(self.listed_rows)

    def _open_rows(self, request: SelectionRequest, picks: Sequence[int]) -> Tensor:
        free = request.open_rows(self.whole_pool.num_rows)
        return rows_open_after(request.availability, free, picks, request.replace)

    def _own_request(self, request: SelectionRequest) -> SelectionRequest:
        """The request in numbers of the list. Its rows may all be picked, so none is excluded."""
        texts = request.texts
        if texts is not None:
            texts = Texts([texts.pool[row] for row in self.indices], texts.targets)
        availability = request.availability.subset(torch.from_numpy(self.indices))
        return dataclasses.replace(request, availability=availability, exclude=(), texts=texts)

    def record(self) -> dict[str, Any] | None:
        """What a record says about the list; `None` without one."""
        if self.shortlist is None or self.listed_rows is None:
            return None
        return {**self.shortlist.to_json(), "first_size": self.num_first, **self.listed_rows.record()}


def rows_open_after(availability: AvailabilityTracker, free: Tensor, picks: Sequence[int], replace: bool) -> Tensor:
    """Returns which rows of a pool may be picked after these picks, (N,) bool.

    Args:
        availability (`AvailabilityTracker`):
            Budget and group shares, before the picks.
        free (`Tensor`):
            (N,) bool, rows that may be picked at all.
        picks (`Sequence[int]`):
            Row numbers.
        replace (`bool`):
            Whether a row may be picked again.
    """
    snapshot = availability.snapshot()
    for row in picks:
        availability.record_pick(row)
    is_open = Limits(availability).open_rows(slice(None))
    availability.restore(snapshot)
    free = free.clone()
    free[list(() if replace else picks)] = False
    return free if is_open is None else free & is_open
