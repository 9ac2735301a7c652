"""What the rivals share: scores of all rows, lists of the nearest rows, and turns."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.selection.protocol import SelectionRequest, in_order, is_open

#: Anchors whose similarities to a block of the pool are held at a time.
ANCHORS_AT_ONCE = 128

#: For a depth, the best rows of each anchor, best first; a list shorter than the depth is all there is.
Lists = Callable[[int], list[list[int]]]


def unit(rows: Tensor) -> Tensor:
    """Rows of norm 1, (B, d) -> (B, d); a zero row stays zero."""
    return torch.nn.functional.normalize(rows)


def pool_scores(pool: Pool, score: Callable[[Tensor], Tensor]) -> Tensor:
    """A score of every row, read block by block by all processes: (B, d) -> (B, ...) becomes (N, ...)."""
    parts = [score(rows) for _, rows in pool.blocks()]
    empty = score(torch.zeros(0, pool.dimension, dtype=torch.float64, device=pool.device))
    return distributed.gather_rows(torch.cat([empty, *parts])).cpu()


def without_rounding(scores: Tensor, scale: float = 1.0) -> Tensor:
    """Scores of size `scale`, to twelve digits: equal rows may differ in their last bits with their place in a matrix
    product, and the row number, not that, must decide between them.
    """
    return (scores * (1e12 / scale)).round()


def ranked(scores: Tensor, exclude: Sequence[int]) -> Tensor:
    """Rows by falling score, ties by number, without those excluded, (N,) -> (open,)."""
    order = torch.sort(scores, descending=True, stable=True).indices
    free = torch.ones(len(scores), dtype=torch.bool)
    free[list(exclude)] = False
    return order[free[order]]


class NearestRows:
    """For each anchor the most similar rows of the pool, exact: one pass over the pool for each depth asked for.

    Args:
        pool (`Pool`):
            The rows.
        similarity (`Callable`):
            Rows (B, d) and some anchors (c, d) -> (c, B), rounded.
        anchors (`Tensor`):
            (m, d).
        exclude (`Sequence[int]`):
            Rows to leave out.
    """

    def __init__(
        self, pool: Pool, similarity: Callable[[Tensor, Tensor], Tensor], anchors: Tensor, exclude: Sequence[int]
    ) -> None:
        self.pool, self.similarity, self.anchors = pool, similarity, anchors
        self.closed = torch.zeros(pool.num_rows, dtype=torch.bool)
        self.closed[list(exclude)] = True
        self.closed = self.closed.to(pool.device)
        self.open_rows = int((~self.closed).sum())

    def __call__(self, depth: int) -> list[list[int]]:
        """The first `depth` rows of each anchor, best first, ties by number."""
        count, device = min(depth, self.open_rows), self.pool.device
        parts = [
            self.anchors[place : place + ANCHORS_AT_ONCE] for place in range(0, len(self.anchors), ANCHORS_AT_ONCE)
        ]
        scores = [torch.zeros(len(part), 0, dtype=torch.float64, device=device) for part in parts]
        numbers = [torch.zeros(len(part), 0, dtype=torch.int64, device=device) for part in parts]
        for start, rows in self.pool.blocks():
            here = torch.arange(start, start + len(rows), device=device)
            for place, part in enumerate(parts):
                found = self.similarity(rows, part).masked_fill(self.closed[here], -torch.inf)  # (c, B)
                both = torch.cat([scores[place], found], 1), torch.cat([numbers[place], here.expand(len(part), -1)], 1)
                scores[place], numbers[place] = _best(*both, count)
        # Processes hold rows in order of their rank: joined, the lists are again in row order where scores are equal.
        gathered = [distributed.gather_rows(torch.cat(table).T).T for table in (scores, numbers)]
        lists: list[list[int]] = _best(gathered[0], gathered[1], count)[1].tolist()
        return lists


def _best(scores: Tensor, numbers: Tensor, count: int) -> tuple[Tensor, Tensor]:
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :count]
    return scores.gather(1, order), numbers.gather(1, order)


def turns(lists: Lists, anchors: int, num_rows: int, request: SelectionRequest, first: int = 0) -> list[int]:
    """Each anchor in turn takes the best of its rows that nobody has taken and that may still be picked.

    Who has no row left passes; when nobody has, the rows that are left follow by number.

    Args:
        lists (`Callable`):
            Depth -> lists of row numbers, each a beginning of the same list at a greater depth.
        anchors (`int`):
            m.
        num_rows (`int`):
            N.
        request (`SelectionRequest`):
            What is asked.
        first (`int`):
            Whose turn it is first, modulo m.
    """
    availability, taken = request.availability, set(request.exclude)
    depth = 8 + 2 * -(-availability.num_examples // anchors)
    rows, places, picks, passed, turn = lists(depth), [0] * anchors, list[int](), 0, first
    while len(picks) < availability.num_examples and passed < anchors:
        anchor, turn, passed = turn % anchors, turn + 1, passed + 1
        while True:
            if places[anchor] == depth:  # a list is either as deep as asked for, or all there is
                depth *= 2
                rows = lists(depth)
            if places[anchor] == len(rows[anchor]):
                break
            row = rows[anchor][places[anchor]]
            places[anchor] += 1
            if row not in taken and is_open(row, availability):  # what is closed stays closed
                availability.record_pick(row)
                taken.add(row)
                picks.append(row)
                passed = 0
                break
    free = request.open_rows(num_rows)
    free[picks] = False
    return in_order(free.nonzero()[:, 0], availability, picks)
