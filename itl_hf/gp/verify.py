"""Passes over the pool: every row's numbers in the precision of the pass, and which rows might beat a speculated pick.

The error of a float32 pass is measured on the candidates, whose exact numbers are known, and widened by a safety
factor; a row is suspect when its score could reach a pick's within that error. What is suspect is decided in float64,
so precision, block size and the number of processes change how often the pool is read and never which rows are picked.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.candidates import Candidates, RowMemory, Run
from itl_hf.gp.greedy import tie
from itl_hf.gp.limits import Limits
from itl_hf.gp.objectives import Objective, Picks
from itl_hf.gp.pool import Pool

MOST_SUSPECTS = 4096
#: Columns of the last pass are kept while they fit in this much memory, to take back picks that did not stand;
#: otherwise
#: they are computed again with the next pass.
COLUMN_BYTES = 256 * 2**20
#: The measured error of a float32 pass is that of a thousand rows; millions may do worse.
SAFETY = 8.0


@dataclass
class Block:
    """One block of the pool: its numbers after the picks it was told of, in the precision of the pass."""

    start: int
    state: Tensor  # (k, B)
    prior: Tensor  # (B,)
    memory: RowMemory
    columns: Tensor | None = None  # (q, b, B), those of the last pass, while there is room for them

    @property
    def span(self) -> slice:
        """Its rows in the pool."""
        return slice(self.start, self.start + len(self.prior))


@dataclass(frozen=True)
class Change:
    """Picks that the blocks have yet to hear of (sign 1), or to forget (sign -1)."""

    picks: Picks
    sign: float

    def to(self, dtype: torch.dtype) -> Change:
        """The same in another precision."""
        return Change(self.picks.to(dtype), self.sign)


@dataclass(frozen=True)
class Suspects:
    """Rows that might beat a speculated pick.

    Args:
        numbers (`Tensor`): (V,) int64 row numbers, ascending.
        first (`int`): the first step that one of them reached; the number of steps if there is none.
        horizon (`int`): steps up to which these are all suspects.
    """

    numbers: Tensor
    first: int
    horizon: int


class Passes:
    """The pool's side of a search.

    Args:
        pool (`Pool`): the rows.
        objective (`Objective`): shared with the search, which observes and forgets picks.
        limits (`Limits`): shared likewise.
        room (`int`): picks that rows with memory need room for.
        most_picks (`int`): the longest run that will be verified.
    """

    def __init__(self, pool: Pool, objective: Objective, limits: Limits, room: int, most_picks: int) -> None:
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
        for start, rows in self.pool.blocks(dtype):
            state, memory = self.objective.begin(rows)
            prior = state[0].clone()  # every objective's first number is the row's variance
            grown = RowMemory(memory, len(self.objective.posteriors), self.room)
            self.blocks.append(Block(start, state, prior, grown))
            largest = torch.maximum(largest, prior.max().double().cpu()[None])
        self.rounding = self.objective.rounding(float(distributed.gather_rows(largest).max()))
        self.error = 0.5 * torch.finfo(dtype).eps * self.pool.dimension**0.5
        columns = sum(len(block.prior) for block in self.blocks) * self.objective.width * self.most_picks
        self.keeps_columns = int(distributed.total(torch.tensor(columns))) * dtype.itemsize <= COLUMN_BYTES
        self.told = 0
        count = self.objective.count
        self.changes = [Change(self.objective.picks(0, count), 1.0)] if count else []
        self.count += 1

    def tell(self, picks: Picks) -> None:
        """Picks that no pass has seen."""
        self.changes.append(Change(picks, 1.0))

    def take_back(self, picks: Picks) -> None:
        """The last picks of the last pass, which did not stand."""
        if not self.keeps_columns:
            self.changes.append(Change(picks, -1.0))
            return
        rejected = picks.to(self.dtype)
        for block in self.blocks:
            columns = block.columns[:, -len(picks) :]  # type: ignore[index]
            block.state = self.objective.advance(block.state, columns, rejected, -1.0)
        self.told = picks.first

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
            score = self.objective.score(block.state, min(self.objective.count, self.told)).double()
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
        return (free if limited is None else free & limited).to(block.prior.device)

    def verify(self, candidates: Candidates, run: Run, base: int) -> Suspects | None:
        """One pass: rows that might beat a pick of the run; `None` when float32 leaves too many of them."""
        steps, first = len(run.places), base
        if self.changes and self.changes[-1].sign > 0:  # what is yet to be told goes into the same matrix product
            first = self.changes.pop().picks.first
        picks = self.objective.picks(first, base + steps).to(self.dtype)
        changes = [change.to(self.dtype) for change in self.changes]
        found = [torch.zeros(0, 2, dtype=torch.int64)]
        for block in self.blocks:
            rows = self.pool.block(block.start, self.dtype)
            for change in changes:
                self._apply(block, rows, change)
            found.append(self._reach(block, rows, picks, candidates, run))
        self._measure_error(candidates, run)
        self.changes, self.told = [], base + steps
        self.count += 1
        return self._narrow(distributed.gather_rows(torch.cat(found)), candidates, run)

    def _apply(self, block: Block, rows: Tensor, change: Change) -> None:
        columns = self._columns(block, rows, change.picks)
        block.state = self.objective.advance(block.state, columns, change.picks, change.sign)
        if change.sign > 0:
            block.memory.append(columns)

    def _columns(self, block: Block, rows: Tensor, picks: Picks) -> Tensor:
        """The picks' columns; the block's memory is first cut back to what came before them."""
        if self.objective.remembers:
            block.memory.length = picks.first
        return self.objective.columns(rows, block.memory.views(), picks)

    def _reach(self, block: Block, rows: Tensor, picks: Picks, candidates: Candidates, run: Run) -> Tensor:
        """Walks one block through the steps; rows outside the candidates that reach a pick's score, (V, 2): number,
        step.

        Picks may begin before the run: those the block has yet to hear of.
        """
        columns = self._columns(block, rows, picks)
        block.memory.append(columns)
        lead = len(picks) - len(run.places)
        block.state = self.objective.advance(block.state, columns[:, :lead], picks.part(0, lead))
        block.columns = columns if self.keeps_columns else None
        numbers = torch.arange(block.start, block.start + len(rows), device=rows.device)
        chosen, slack = candidates.numbers[run.places], block.prior * (SAFETY * self.error)
        reached = torch.empty(len(run.places), len(rows), dtype=torch.bool, device=rows.device)
        for step, score in enumerate(run.scores):
            bound = self.objective.upper(block.state, slack, picks.first + lead + step)
            margin = tie(score, self.rounding)
            torch.ge(bound, score + margin, out=reached[step])
            # An equal row wins only with a lower number.
            reached[step] |= (bound >= score - margin) & (numbers < chosen[step])
            limited = self.limits.mask(run.openings[step], block.span)
            if limited is not None:
                reached[step] &= limited.to(rows.device)
            here = slice(lead + step, lead + step + 1)
            block.state = self.objective.advance(block.state, columns[:, here], picks.part(here.start, here.stop))
        reached &= self.free[block.span].to(rows.device) & ~torch.isin(numbers, candidates.numbers)
        places = reached.any(0).nonzero()[:, 0]
        first = reached[:, places].int().argmax(0)
        return torch.stack([numbers[places], first], dim=1).cpu()

    def _narrow(self, suspects: Tensor, candidates: Candidates, run: Run) -> Suspects | None:
        """Drops suspects that are copies of a candidate which is still there and comes first; keeps a bounded
        number.
        """
        steps = len(run.places)
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

    def _measure_error(self, candidates: Candidates, run: Run) -> None:
        """The largest error of the pass on rows whose exact numbers are known, relative to their prior variance."""
        worst = torch.zeros(1, dtype=torch.float64)
        for block in self.blocks:
            inside = (candidates.numbers >= block.start) & (candidates.numbers < block.span.stop)
            places = inside.nonzero()[:, 0]
            if len(places):
                here = candidates.numbers[places] - block.start
                scale = self.objective.scales(block.prior[here].double())  # (k, ...)
                error = (block.state[:, here].double() - run.states[-1][:, places]).abs() / scale
                worst = torch.maximum(worst, error.max().cpu()[None])
        self.error = max(self.error, float(distributed.gather_rows(worst).max()))


def row_marks(rows: Tensor) -> Tensor:
    """A number for each row that equal rows share, (B, d) float64 -> (B,) int64: integer arithmetic, so to the last
    bit.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator).to(rows.device) | 1
    return (rows.contiguous().view(torch.int64) * weights).sum(1)
