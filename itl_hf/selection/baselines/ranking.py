"""Shared by the baselines: scores of all rows, lists of the nearest rows, and turns of the targets."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.selection.protocol import SelectionRequest, in_order, is_open

#: Number of anchors whose similarities to a block of the pool are in memory at a time.
ANCHORS_AT_ONCE = 128

#: Returns, for a depth, the best rows of each anchor, best first. A list shorter than the depth holds all rows.
Lists = Callable[[int], list[list[int]]]


def unit(rows: Tensor) -> Tensor:
    """Scales rows to norm 1, (B, d) -> (B, d); a zero row stays zero."""
    return torch.nn.functional.normalize(rows)


def pool_scores(pool: Pool, score: Callable[[Tensor], Tensor]) -> Tensor:
    """Computes a score of every row, block by block on all processes.

    `score` maps (B, d) to (B, ...); the result is (N, ...).
    """
    parts = [score(rows) for _, rows in pool.blocks()]
    empty = score(torch.zeros(0, pool.dimension, dtype=torch.float64, device=pool.device))
    return distributed.gather_rows(torch.cat([empty, *parts])).cpu()


def without_rounding(scores: Tensor, scale: float = 1.0) -> Tensor:
    """Rounds scores of size `scale` to twelve digits.

    The scores of equal rows may differ in their last bits, depending on their place in a matrix product. After
    rounding the row number decides between them.
    """
    return (scores * (1e12 / scale)).round()


def rank_rows(scores: Tensor, exclude: Sequence[int]) -> Tensor:
    """Sorts rows by falling score, ties by row number, without the excluded ones, (N,) -> row numbers."""
    order = torch.sort(scores, descending=True, stable=True).indices
    free = torch.ones(len(scores), dtype=torch.bool)
    free[list(exclude)] = False
    return order[free[order]]


class NearestRows:
    """The most similar rows of the pool for each anchor, exactly; each requested depth takes one pass over the pool.

    Args:
        pool (`Pool`):
            The rows.
        similarity (`Callable`):
            Maps rows (B, d) and some anchors (c, d) to rounded similarities (c, B).
        anchors (`Tensor`):
            (m, d).
        exclude (`Sequence[int]`):
            Rows to leave out.
        row_factors (`Tensor`, *optional*):
            (N,) factors of the rows' similarities.
    """

    def __init__(
        self,
        pool: Pool,
        similarity: Callable[[Tensor, Tensor], Tensor],
        anchors: Tensor,
        exclude: Sequence[int],
        row_factors: Tensor | None = None,
    ) -> None:
        self.pool, self.similarity, self.anchors, self.row_factors = pool, similarity, anchors, row_factors
        self.excluded_mask = torch.zeros(pool.num_rows, dtype=torch.bool)
        self.excluded_mask[list(exclude)] = True
        self.excluded_mask = self.excluded_mask.to(pool.device)
        self.num_open = int((~self.excluded_mask).sum())

    def __call__(self, depth: int) -> list[list[int]]:
        """Returns the first `depth` rows of each anchor, best first, ties by row number."""
        count, device = min(depth, self.num_open), self.pool.device
        parts = [
            self.anchors[place : place + ANCHORS_AT_ONCE] for place in range(0, len(self.anchors), ANCHORS_AT_ONCE)
        ]
        scores = [torch.zeros(len(part), 0, dtype=torch.float64, device=device) for part in parts]
        numbers = [torch.zeros(len(part), 0, dtype=torch.int64, device=device) for part in parts]
        for start, rows in self.pool.blocks():
            row_numbers = torch.arange(start, start + len(rows), device=device)
            for place, part in enumerate(parts):
                similarities = self.similarity(rows, part)  # (c, B)
                if self.row_factors is not None:
                    similarities = similarities * self.row_factors[row_numbers]
                similarities = similarities.masked_fill(self.excluded_mask[row_numbers], -torch.inf)
                both = (
                    torch.cat([scores[place], similarities], 1),
                    torch.cat([numbers[place], row_numbers.expand(len(part), -1)], 1),
                )
                scores[place], numbers[place] = _best(*both, count)
        # Processes hold rows in the order of their ranks, so the joined lists keep equal scores in row order.
        tables = [distributed.gather_rows(torch.cat(table).T).T for table in (scores, numbers)]
        lists: list[list[int]] = _best(tables[0], tables[1], count)[1].tolist()
        return lists


def _best(scores: Tensor, numbers: Tensor, count: int) -> tuple[Tensor, Tensor]:
    order = torch.sort(scores, dim=1, descending=True, stable=True).indices[:, :count]
    return scores.gather(1, order), numbers.gather(1, order)


def turn_order(count: int, weights: Tensor | None, finished_anchors: Collection[int] = ()) -> Iterator[int]:
    """Yields whose turn is next among `count` anchors, in proportion to their weights, spread as evenly as can be.

    The next turn is that of the anchor with the smallest (turns so far + 1/2) / weight; ties go to the first anchor. So
    equal weights give turns in order, and with integer weights of sum W every W turns hold as many turns of each anchor
    as its weight says: the turns are those of a list in which each anchor occurs that often. Anchors in
    `finished_anchors`, which may grow meanwhile, get no further turn; the turns of the others stay in the same order.

    Source: Waldspurger & Weihl, "Stride Scheduling" (1995); the quotients are those of Webster's method of
    apportionment.

    Example:
        >>> list(itertools.islice(turn_order(2, torch.tensor([2.0, 1.0])), 6))
        [0, 1, 0, 0, 1, 0]
    """
    shares = [1.0] * count if weights is None else weights.tolist()
    counts, heap = [0] * count, [(0.5 / share, anchor) for anchor, share in enumerate(shares)]
    heapq.heapify(heap)
    while heap:
        _, anchor = heap[0]
        if anchor in finished_anchors:
            heapq.heappop(heap)
            continue
        counts[anchor] += 1
        heapq.heapreplace(heap, ((counts[anchor] + 0.5) / shares[anchor], anchor))
        yield anchor


def turns(
    lists: Lists,
    anchors: int,
    num_rows: int,
    request: SelectionRequest,
    first: int = 0,
    weights: Tensor | None = None,
) -> list[int]:
    """Picks, for each anchor in turn, its best row that is not picked yet and is available.

    An anchor without such a row is skipped; when no anchor has one, the remaining rows follow by row number.

    Args:
        lists (`Callable`):
            Maps a depth to lists of row numbers; the list at a smaller depth is the beginning of the one at a greater.
        anchors (`int`):
            m.
        num_rows (`int`):
            N.
        request (`SelectionRequest`):
            Number of rows, constraints and observed rows.
        first (`int`):
            Number of turns that are over.
        weights (`Tensor`, *optional*):
            (m,), how the turns are shared, as in `turn_order`; equally when left out.
    """
    availability, taken_rows = request.availability, set(request.exclude)
    depth = 8 + 2 * -(-availability.num_examples // anchors)
    rows, places, picks, finished_anchors = lists(depth), [0] * anchors, list[int](), set[int]()
    order = itertools.islice(turn_order(anchors, weights, finished_anchors), first, None)
    while len(picks) < availability.num_examples and (anchor := next(order, None)) is not None:
        while True:
            if places[anchor] == depth:  # a list is either as long as the depth, or holds all rows
                depth *= 2
                rows = lists(depth)
            if places[anchor] == len(rows[anchor]):
                finished_anchors.add(anchor)
                break
            row = rows[anchor][places[anchor]]
            places[anchor] += 1
            if row not in taken_rows and is_open(row, availability):  # an unavailable row stays unavailable
                availability.record_pick(row)
                taken_rows.add(row)
                picks.append(row)
                break
    free = request.open_rows(num_rows)
    free[picks] = False
    return in_order(free.nonzero()[:, 0], availability, picks)
