"""Shared by the baselines: scores of all rows, lists of the nearest rows, and turns of the targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    """

    def __init__(
        self, pool: Pool, similarity: Callable[[Tensor, Tensor], Tensor], anchors: Tensor, exclude: Sequence[int]
    ) -> None:
        self.pool, self.similarity, self.anchors = pool, similarity, anchors
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


def turns(lists: Lists, anchors: int, num_rows: int, request: SelectionRequest, first: int = 0) -> list[int]:
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
            The anchor whose turn is first, modulo m.
    """
    availability, taken_rows = request.availability, set(request.exclude)
    depth = 8 + 2 * -(-availability.num_examples // anchors)
    rows, places, picks, num_passed, turn = lists(depth), [0] * anchors, list[int](), 0, first
    while len(picks) < availability.num_examples and num_passed < anchors:
        anchor, turn, num_passed = turn % anchors, turn + 1, num_passed + 1
        while True:
            if places[anchor] == depth:  # a list is either as long as the depth, or holds all rows
                depth *= 2
                rows = lists(depth)
            if places[anchor] == len(rows[anchor]):
                break
            row = rows[anchor][places[anchor]]
            places[anchor] += 1
            if row not in taken_rows and is_open(row, availability):  # an unavailable row stays unavailable
                availability.record_pick(row)
                taken_rows.add(row)
                picks.append(row)
                num_passed = 0
                break
    free = request.open_rows(num_rows)
    free[picks] = False
    return in_order(free.nonzero()[:, 0], availability, picks)
