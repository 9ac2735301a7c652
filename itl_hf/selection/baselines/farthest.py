"""Farthest-first traversal and k-means++ seeding of a pool that is read a few times.

Both need the row with the largest weight(x) D(x)^2, where D is the distance to the nearest centre. D only falls as
centres are added, so an old value is an upper bound. It is updated only for rows that may have the largest value, and
for all rows in one pass when there are many of those.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.selection.protocol import SelectionRequest, open_among

#: Number of rows that are updated at a time.
AT_ONCE = 256
#: Number of centres whose distances to a block of the pool are in memory at a time.
CENTRES_AT_ONCE = 512
#: All rows are updated in one pass after this many single updates, or this share of the pool (one in `SHARE`).
MOST_SINGLE, SHARE = 4096, 8
TIE = 1e-9
#: Squared distances below this, relative to the largest squared norm, are rounding errors: the rows are equal.
EQUAL = 1e-13


class Distances:
    """Squared distance of each row to the nearest centre, or an upper bound of it.

    Args:
        pool (`Pool`):
            The rows.
        centres (`Tensor`):
            (c, d) float64, at least one.
    """

    def __init__(self, pool: Pool, centres: Tensor) -> None:
        self.pool, self.centres = pool, centres
        self.bound = torch.full((pool.num_rows,), torch.inf, dtype=torch.float64)
        self.num_applied = torch.zeros(pool.num_rows, dtype=torch.int64)  # centres that a bound accounts for
        self.num_passed, self.single = 0, 0
        self.floor = 0.0
        self._pass()

    def add(self, centre: Tensor) -> None:
        """Adds a centre, (d,)."""
        self.centres = torch.cat([self.centres, centre[None]])

    def best(self, weights: Tensor | None, free: Tensor) -> tuple[int, float]:
        """Returns the available row with the largest weight(x) D(x)^2, and that value; ties go to the first row."""
        count = len(self.centres)
        while True:
            scores = self.bound if weights is None else self.bound * weights
            scores = scores.masked_fill(~free, -torch.inf)
            is_current = self.num_applied == count
            at_least = float(scores[is_current].max()) if bool(is_current.any()) else -torch.inf
            stale = (~is_current & free & (scores >= at_least * (1 - TIE))).nonzero()[:, 0]
            if len(stale) == 0:
                return int((scores >= at_least * (1 - TIE)).nonzero()[0]), at_least
            if self.single >= max(MOST_SINGLE, self.pool.num_rows // SHARE):
                self._pass()
            else:
                first = scores[stale].topk(min(AT_ONCE, len(stale))).indices
                self._update(stale[first.sort().values])

    def _update(self, numbers: Tensor) -> None:
        rows = self.pool.rows(numbers.tolist())
        new = self.centres[int(self.num_applied[numbers].min()) :]
        exact = torch.cdist(rows, new, compute_mode="donot_use_mm_for_euclid_dist").square().amin(1).cpu()  # (B,)
        self._lower(numbers, exact)
        self.single += len(numbers)

    def _pass(self) -> None:
        places = range(self.num_passed, len(self.centres), CENTRES_AT_ONCE)
        new = [self.centres[place : place + CENTRES_AT_ONCE] for place in places]
        parts = [torch.zeros(2, 0, dtype=torch.float64, device=self.pool.device)]
        for _, rows in self.pool.blocks():
            own = rows.square().sum(1)  # (B,)
            nearest = [(part.square().sum(1)[:, None] - 2 * (part @ rows.T)).amin(0) for part in new]
            parts.append(torch.stack([torch.stack(nearest).amin(0) + own, own]))
        nearest, own = distributed.gather_rows(torch.cat(parts, 1).T).T.cpu()  # (N,) each
        self.floor = EQUAL * float(own.max())
        self._lower(torch.arange(self.pool.num_rows), nearest)
        self.num_passed, self.single = len(self.centres), 0

    def _lower(self, numbers: Tensor, distances: Tensor) -> None:
        distances = torch.where(distances > self.floor, distances, 0.0)
        self.bound[numbers] = torch.minimum(self.bound[numbers], distances)
        self.num_applied[numbers] = len(self.centres)


def traverse(
    pool: Pool,
    request: SelectionRequest,
    observed_rows: Tensor,
    first: Callable[[Tensor], int],
    weights: Callable[[int], Tensor | None],
) -> list[int]:
    """Picks the available row with the largest weight(x) D(x)^2 until there are enough picks.

    If all available rows equal a centre, the weights alone decide, or the row number.

    Args:
        pool (`Pool`):
            The rows.
        request (`SelectionRequest`):
            Number of rows and constraints.
        observed_rows (`Tensor`):
            (h, d) first centres.
        first (`Callable`):
            Maps the available rows, (N,) bool, to the first pick; used if there is no centre.
        weights (`Callable`):
            Maps the number of centres to (N,) positive weights, or `None` for equal weights.
    """
    availability, picks, distances = request.availability, list[int](), None
    free, everything = request.open_rows(pool.num_rows), torch.arange(pool.num_rows)
    if len(observed_rows):
        distances = Distances(pool, observed_rows)
    while len(picks) < availability.num_examples:
        open_rows = free & open_among(everything, availability) if availability.is_constrained else free
        if not bool(open_rows.any()):
            break
        if distances is None:
            row = first(open_rows)
        else:
            weight = weights(len(distances.centres))
            row, value = distances.best(weight, open_rows)
            if value <= 0 and weight is not None:
                row = int(weight.masked_fill(~open_rows, -torch.inf).argmax())
        free[row] = False
        availability.record_pick(row)
        picks.append(row)
        centre = pool.rows([row])
        if distances is None:
            distances = Distances(pool, centre)
        else:
            distances.add(centre[0])
        if request.on_picks is not None:
            request.on_picks(1)
    return picks
