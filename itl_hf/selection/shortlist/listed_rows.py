"""Makes the shortlist: the targets' nearest rows, by turns, near-duplicates counted once."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.kernels import Cosine, ExponentialCosine, Kernel, Linear, correlation
from itl_hf.gp.pool import Pool
from itl_hf.selection.baselines.ranking import Lists, NearestRows, turn_order, unit, without_rounding
from itl_hf.selection.shortlist.indexed_rows import IndexedRows
from itl_hf.selection.shortlist.near_duplicates import NEAR_DUPLICATE_COSINE, NearDuplicates

#: Rows that are compared with the list together, for all targets.
LOOKAHEAD_ROWS = 512


class ListedRows:
    """Rows of a pool, added by turns of the targets, nearest first.

    Args:
        pool (`Pool`):
            The rows, prepared as for the selection.
        kernel (`Kernel`):
            Its correlation says what is near.
        targets (`Tensor`):
            (m, d) prepared targets.
        earlier_rows (`Tensor`):
            (h, d) prepared rows whose near-duplicates take no place either: those that were trained on before.
        first_turn (`int`, *optional*, defaults to 0):
            Turns to leave out at the beginning, for a selection that continues another.
        weights (`Tensor`, *optional*):
            (m,) weights of the targets, which get turns in proportion.
        index (`IndexedRows`, *optional*):
            Finds rows without a pass over the pool, where the kernel orders rows by their cosine.

    Attributes:
        rows (`list[int]`):
            Row numbers on the list, in the order in which they were added.
    """

    def __init__(
        self,
        pool: Pool,
        kernel: Kernel,
        targets: Tensor,
        earlier_rows: Tensor,
        first_turn: int = 0,
        weights: Tensor | None = None,
        index: IndexedRows | None = None,
    ) -> None:
        self.pool, self.kernel, self.targets = pool, kernel, targets
        # How much the answer's noise lowers a row's correlation, with a noise of k(x, x) for quality 1.
        self._row_factors = None if pool.quality is None else (1 + 1 / pool.quality).rsqrt()
        self.index = index if orders_by_cosine(kernel) and pool.quality is None else None
        self.rows: list[int] = []
        self._copies: dict[int, None] = {}  # near-duplicates that are not on the list yet, in the order of their turns
        self.num_copies = 0
        self._near_duplicates = NearDuplicates(pool, earlier_rows)
        self._turns = itertools.islice(turn_order(len(targets), weights), first_turn, None)

    def record(self) -> dict[str, Any]:
        """What a record says about the list: rows, near-duplicates among them, the kind of an index."""
        entries: dict[str, Any] = {
            "size": len(self.rows),
            "near_duplicates": self.num_copies,
            "near_duplicate_cosine": NEAR_DUPLICATE_COSINE,
        }
        return entries if self.index is None else {**entries, "index": self.index.facts.kind}

    def grow(self, is_open: Tensor, count: int) -> int:
        """Adds up to `count` rows that are no near-duplicates, with at most as many near-duplicates of rows on the list
        that come before them, and returns how many rows were added.

        Near-duplicates are not left out: to a weak embedder the rows of a task can all look the same, and which of them
        teach something new is for the objective to say.

        Collective: all processes call it together, and get the same rows.

        Args:
            is_open (`Tensor`):
                (N,) bool, rows that may be added; those on the list are left out.
            count (`int`):
                Rows to add.
        """
        is_open = is_open.clone()
        is_open[self.rows] = False
        count = min(count, int(is_open.sum()))
        new_rows: list[int] = []
        if 0 < count < int(is_open.sum()):
            if self.index is not None:
                new_rows = self._take_turns(self._indexed_rows(self.index, is_open), count)
                is_open[new_rows] = False
            if len(new_rows) < count:  # the index, if there is one, finds no further rows
                new_rows += self._take_turns(self._nearest_rows(is_open), count - len(new_rows))
            new_rows += [row for row in self._copies if is_open[row]][:count]
        elif count:
            new_rows = is_open.nonzero()[:, 0].tolist()
        # Unequal machines may round differently.
        new_rows = distributed.broadcast_from_first(torch.tensor(new_rows, dtype=torch.int64)).tolist()
        for row in new_rows:
            if row in self._copies:
                self.num_copies += 1
                del self._copies[row]
        self.rows += new_rows
        return len(new_rows)

    def _nearest_rows(self, is_open: Tensor) -> Lists:
        closed_rows = (~is_open).nonzero()[:, 0].tolist()
        if orders_by_cosine(self.kernel):
            return NearestRows(self.pool, _cosines, unit(self.targets), closed_rows, self._row_factors)
        return NearestRows(self.pool, correlations(self.kernel), self.targets, closed_rows, self._row_factors)

    def _indexed_rows(self, index: IndexedRows, is_open: Tensor) -> Lists:
        is_open = is_open.clone()
        return lambda depth: index.lists(self.pool, self.targets, is_open, depth)

    def _take_turns(self, lists: Lists, count: int) -> list[int]:
        """Adds each target's nearest row in turn, until there are `count` or no target has a distinct row left."""
        ranking = _Ranking(lists, len(self.targets), depth=8 + 2 * -(-count // len(self.targets)))
        new_rows: dict[int, None] = {}
        open_targets = set(range(len(self.targets)))
        while len(new_rows) < count and open_targets:
            target = next(self._turns)
            if target not in open_targets:
                continue
            row = self._next_distinct_row(ranking, target, new_rows)
            if row is None:
                open_targets.remove(target)
                continue
            self._near_duplicates.keep(row)
            new_rows[row] = None
        return list(new_rows)

    def _next_distinct_row(self, ranking: _Ranking, target: int, new_rows: dict[int, None]) -> int | None:
        while (row := ranking.next_row(target)) is not None:
            if row in new_rows or row in self._copies:
                continue
            if row not in self._near_duplicates:
                ahead = max(1, LOOKAHEAD_ROWS // len(self.targets))
                batch = dict.fromkeys([row, *ranking.rows_ahead(ahead)])
                self._near_duplicates.load([index for index in batch if index not in new_rows])
            if not self._near_duplicates.is_copy(row):
                return row
            self._copies[row] = None
        return None


class _Ranking:
    """The targets' lists of nearest rows, read row by row; lists that end are replaced by longer ones."""

    def __init__(self, lists: Lists, num_targets: int, depth: int) -> None:
        self._lists, self._depth = lists, depth
        self._tables = lists(depth)
        self._places = [0] * num_targets

    def next_row(self, target: int) -> int | None:
        """Returns the target's next row, `None` after the last."""
        place = self._places[target]
        if place == self._depth:  # a list is either as long as the depth, or holds all rows
            self._depth *= 2
            self._tables = self._lists(self._depth)
        if place == len(self._tables[target]):
            return None
        self._places[target] += 1
        return self._tables[target][place]

    def rows_ahead(self, count: int) -> list[int]:
        """Returns the next `count` rows of every target, as far as the lists go."""
        parts = (table[place : place + count] for table, place in zip(self._tables, self._places, strict=True))
        return list(itertools.chain.from_iterable(parts))


def orders_by_cosine(kernel: Kernel) -> bool:
    """Whether a larger cosine of two rows always means a larger correlation under the kernel."""
    return isinstance(kernel, Linear | Cosine | ExponentialCosine) or getattr(kernel, "on", None) == "cosine"


def correlations(kernel: Kernel) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns a function of rows (B, d) and targets (c, d) that computes their correlations, (c, B)."""

    def similarity(rows: Tensor, targets: Tensor) -> Tensor:
        return without_rounding(correlation(kernel, targets, rows))

    return similarity


def _cosines(rows: Tensor, targets: Tensor) -> Tensor:
    return without_rounding(targets @ unit(rows).T)
