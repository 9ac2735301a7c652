"""Passes over the pool: every row's numbers in the precision of the pass, and which rows might beat a speculated pick.

The error of a float32 pass is measured on the candidates, whose exact numbers are known, and widened by a safety
factor; a row is suspect when its score could reach a pick's within that error. What is suspect is decided in float64,
so precision, block size and the number of processes change how often the pool is read and never which rows are picked.

A row that beats a pick even at the low end of its error ends the run there, and the blocks after it are walked no
further: blocks differ in how many picks they were told, until those that do not stand are taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.objectives.base import Memory, Objective, Picks
from itl_hf.objectives.target_basis import Anchored, pays
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.search.blocks import Block, Change, Walk
from itl_hf.search.candidates import Candidates, ProjectionCache, Run

MOST_SUSPECTS = 4096
#: Columns of the last pass are kept while they fit in this much memory, to take back picks that did not stand;
#: otherwise they are computed again with the next pass.
COLUMN_BYTES = 256 * 2**20
#: The measured error of a float32 pass is that of a thousand rows; millions may do worse.
SAFETY = 8.0
#: A pass is repeated when the error found after it leaves less than this of the safety factor.
LEAST_MARGIN = 2.0


@dataclass(frozen=True)
class Suspects:
    """Rows that might beat a speculated pick.

    Args:
        numbers (`Tensor`):
            (V,) int64 row numbers, ascending.
        first (`int`):
            The first step that one of them reached; the number of steps if there is none.
        horizon (`int`):
            Steps up to which these are all suspects.
    """

    numbers: Tensor
    first: int
    horizon: int


class PoolVerifier:
    """The pool's side of a search.

    Args:
        pool (`Pool`):
            The rows.
        objective (`Objective`):
            Shared with the search, which observes and forgets picks.
        limits (`AvailabilityTracker`):
            Shared likewise.
        room (`int`):
            Picks that rows with memory need room for.
        most_picks (`int`):
            The longest run that will be verified.
    """

    def __init__(
        self, pool: Pool, objective: Objective, limits: AvailabilityTracker, room: int, most_picks: int
    ) -> None:
        self.pool, self.objective, self.limits = pool, objective, limits
        self.room, self.most_picks = room, most_picks
        self.free = torch.ones(pool.num_rows, dtype=torch.bool)
        self.count = 0
        self.start(torch.float32)

    def start(self, dtype: torch.dtype) -> None:
        """A first pass: numbers before any pick; the picks there are become a change yet to be told."""
        self.dtype = dtype
        self.blocks: list[Block] = []
        largest = torch.zeros(1, dtype=torch.float64)
        anchors = self.objective.anchors
        self.anchors = anchors if anchors is not None and self.pool.keeps and pays(anchors, self.most_picks) else None
        for start, rows in self.pool.blocks(dtype):
            state, memory, carried = self._begin(rows)
            grown = ProjectionCache(memory, len(self.objective.posteriors), self.room)
            self.blocks.append(Block(start, state, self.objective.scales(state), grown, carried))
            largest = torch.maximum(largest, state[0].max().double().cpu()[None])  # the first number is the variance
        self.rounding = self.objective.rounding(float(distributed.gather_rows(largest).max()))
        self.error: Tensor | None = None  # (k,), relative to the numbers' scales; known once there are candidates
        columns = sum(block.state.shape[1] for block in self.blocks) * self.objective.width * self.most_picks
        self.keeps_columns = int(distributed.sum_over_processes(torch.tensor(columns))) * dtype.itemsize <= COLUMN_BYTES
        count = self.objective.count
        self.changes = [Change(self._picks(0, count), 1.0)] if count else []
        self.count += 1

    def _begin(self, rows: Tensor) -> tuple[Tensor, Memory, Tensor | None]:
        if self.anchors is None:
            return *self.objective.begin(rows), None
        state, carried = self.objective.begin_anchored(rows)
        return state, [], carried

    def _picks(self, first: int, last: int) -> Picks:
        """Picks `first` to `last` (exclusive), with what they mean to rows that carry covariances."""
        picks = self.objective.picks(first, last)
        if self.anchors is None:
            return picks
        earlier = self.objective.posteriors[0].frame(0, first).rows
        return replace(picks, anchored=Anchored.of(self.objective.directions(picks), earlier, self.anchors))

    def tell(self, first: int, last: int) -> None:
        """Picks `first` to `last` (exclusive), which no pass has seen."""
        self.changes.append(Change(self._picks(first, last), 1.0))

    def take_back(self, first: int, last: int) -> None:
        """The last picks of the last pass, `first` to `last` (exclusive), which did not stand: told with the next."""
        picks = self.objective.picks(first, last)
        if self.anchors is not None:  # no shortcut: what rows carry knows of these picks already
            picks = replace(picks, anchored=Anchored(self.objective.directions(picks)[0] @ self.anchors.T, None))
        self.changes.append(Change(picks, -1.0))

    def take_back_kept(self, first: int) -> None:
        """The same, all from `first` on, by the columns kept of the last pass."""
        rejected = self._last.part(first - self._last.first, len(self._last))
        for block in self.blocks:
            block.take_back(self.objective, rejected)

    def open_rows(self, replace: bool) -> int:
        """How many rows can be picked next."""
        closed = self.limits.mask(self.limits.opening(), slice(None))
        return int((self.free if closed is None else self.free & closed).sum())

    def largest_scores(self, breadth: int) -> Tensor:
        """Numbers of the open rows with the largest scores, ascending, (M,); the same on every process."""
        device = self.pool.device
        scores = [torch.zeros(0, dtype=torch.float64, device=device)]
        numbers = [torch.zeros(0, dtype=torch.int64, device=device)]
        for block in self.blocks:
            score = self.objective.score(block.state, min(self.objective.count, block.told)).double()
            # What float32 cannot express (a share of 1, say) may well be the best: exact numbers decide.
            score = score.nan_to_num(nan=torch.inf).masked_fill(~self._open(block), -torch.inf)
            top = score.topk(min(breadth, len(score)))
            scores.append(top.values)
            numbers.append(top.indices + block.start)
        top = torch.cat(scores).topk(min(breadth, sum(len(score) for score in scores)))
        score, number = distributed.gather_rows(top.values), distributed.gather_rows(torch.cat(numbers)[top.indices])
        # Ascending row numbers first, so that the stable sort leaves ties to the lowest.
        order = number.argsort()
        order = order[score[order].argsort(descending=True, stable=True)][:breadth]
        return number[order[score[order] > -torch.inf]].sort().values

    def _open(self, block: Block) -> Tensor:
        free, limited = self.free[block.span], self.limits.mask(self.limits.opening(), block.span)
        return (free if limited is None else free & limited).to(block.state.device)

    def verify(self, candidates: Candidates, run: Run, base: int) -> Suspects | None:
        """Rows that might beat a pick of the run; `None` when float32 leaves too many of them."""
        if self.error is None:
            self.error = self._error_at_start(candidates)
        while True:
            found, steps = self._pass(candidates, run, base, SAFETY * self.error)
            measured = self._error_now(candidates, run, base)
            relied_on, self.error = self.error, torch.maximum(self.error, measured)
            if self.dtype == torch.float64 or bool((SAFETY * relied_on >= LEAST_MARGIN * measured).all()):
                return self._narrow(found, steps, candidates, run)
            if self.keeps_columns:  # again, with what is known now
                self.take_back_kept(base)
            else:
                self.take_back(base, base + len(run.places))

    def _pass(self, candidates: Candidates, run: Run, base: int, error: Tensor) -> tuple[Tensor, int]:
        """Walks all blocks through the run; suspects, (V, 2): number, step; and after how many steps the run ends."""
        first, steps = base, len(run.places)
        if self.changes and self.changes[-1].sign > 0:  # what is yet to be told goes into the same matrix product
            first = self.changes.pop().picks.first
        changes, self.changes = [change.to(self.dtype) for change in self.changes], []
        others = self.free.clone()
        others[candidates.numbers.cpu()] = False
        picked = candidates.numbers[run.places]
        walk = Walk(self.objective, self.limits, others, picked, run, base, error, self.rounding)
        found = [torch.zeros(0, 2, dtype=torch.int64)]
        picks = self._last = self._picks(first, base + steps).to(self.dtype)
        for block in self.blocks:
            rows = self.pool.block(block.start, self.dtype)
            for change in changes:
                block.take(self.objective, rows, change)
            suspects, ends = block.walk(walk, rows, picks, self.keeps_columns)
            found.append(suspects)
            if ends < steps:  # for the blocks after this one, too
                steps, picks = ends, self._picks(first, base + ends).to(self.dtype)
        self.count += 1
        shortest = int(distributed.gather_rows(torch.tensor([steps])).min())
        return distributed.gather_rows(torch.cat(found)), shortest

    def _narrow(self, suspects: Tensor, steps: int, candidates: Candidates, run: Run) -> Suspects | None:
        """Drops suspects that are copies of a candidate which is still there and comes first; keeps a bounded
        number.
        """
        suspects = suspects[suspects[:, 1] < steps]  # some blocks were walked further
        if len(suspects) == 0:
            return Suspects(suspects[:, 0], steps, steps)
        order = (suspects[:, 1] * self.pool.num_rows + suspects[:, 0]).argsort()
        suspects = suspects[order]
        if len(suspects) > MOST_SUSPECTS:
            horizon = int(suspects[MOST_SUSPECTS, 1])
            if horizon == 0 and self.dtype == torch.float32:
                return None
            steps = max(horizon, 1)
            suspects = suspects[suspects[:, 1] < steps]
        suspects = suspects[self._may_win(suspects[:, 0], candidates, run)]
        first = int(suspects[0, 1]) if len(suspects) else steps
        return Suspects(suspects[:, 0].sort().values, first, steps)

    def _may_win(self, numbers: Tensor, candidates: Candidates, run: Run) -> Tensor:
        """False for rows equal to a candidate with a lower number that the run does not pick, (V,) bool."""
        if self.limits.bind:  # copies may belong to other groups
            return torch.ones(len(numbers), dtype=torch.bool)
        left = torch.ones(len(candidates), dtype=torch.bool)
        left[run.places] = False
        lowest: dict[int, int] = {}
        marks = row_marks(candidates.rows)[left].tolist()
        for mark, number in zip(marks, candidates.numbers[left].tolist(), strict=True):
            lowest.setdefault(mark, number)
        pairs = zip(row_marks(self.pool.rows(numbers.tolist())).tolist(), numbers.tolist(), strict=True)
        return torch.tensor([lowest.get(mark, number) >= number for mark, number in pairs], dtype=torch.bool)

    def _error_at_start(self, candidates: Candidates) -> Tensor:
        """A first idea of the error, (k,): that of the numbers before any pick, and no less than a few roundings."""
        exact, _ = self.objective.begin(candidates.rows)
        rounded, _ = self.objective.begin(candidates.rows.to(self.dtype))
        error = self._relative(rounded.double() - exact, self.objective.scales(exact))
        return error.clamp_min(2 * torch.finfo(self.dtype).eps)

    def _error_now(self, candidates: Candidates, run: Run, base: int) -> Tensor:
        """The largest error of the pass on rows whose exact numbers are known, (k,); the same on every process."""
        worst = torch.zeros(1, len(run.states[0]), dtype=torch.float64)
        for block in self.blocks:
            inside = (candidates.numbers >= block.start) & (candidates.numbers < block.span.stop)
            places = inside.nonzero()[:, 0]
            if len(places):
                here = candidates.numbers[places] - block.start
                difference = block.state[:, here].double() - run.states[block.told - base][:, places]
                worst = torch.maximum(worst, self._relative(difference, block.scale[:, here].double())[None].cpu())
        return distributed.gather_rows(worst).max(0).values

    def _relative(self, difference: Tensor, scale: Tensor) -> Tensor:
        """(k, B), (s, B) -> (k,)."""
        spread = self.objective.spread(scale).clamp_min(torch.finfo(torch.float32).tiny)
        return (difference.abs() / spread).max(1).values.cpu()


def row_marks(rows: Tensor) -> Tensor:
    """A number for each row that equal rows share, (B, d) float64 -> (B,) int64: integer arithmetic, so to the last
    bit.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator).to(rows.device) | 1
    return (rows.contiguous().view(torch.int64) * weights).sum(1)
