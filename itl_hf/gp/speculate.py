"""Exact greedy selection at the speed of matrix products: speculate, then verify.

Plain greedy reads the whole pool for every pick. Here, for a block of b picks:

1. *Speculate.* Among the M rows with the largest gains, run b exact greedy steps in float64.
2. *Verify.* One pass over the pool, in float32 where the noise allows: a matrix product gives every row's numbers at
each of the b
   steps, and so an upper bound of its score (float32's error is measured on the candidates, whose exact numbers are
   known). A row whose bound reaches the speculated pick's score is *suspect*.
3. *Commit.* With suspects, the steps are run again among candidates and suspects together; no other row can have won
any step up to
   and including the first whose pick changes, so those picks stand. Without suspects all b stand.

The picks are those of plain greedy in float64, whatever b, M, the precision of the pass, and the number of processes:
these change only how often the pool is read. A float32 pass that cannot tell rows apart (tiny noise) is given up for a
float64 one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.candidates import Candidates, RowMemory, Run
from itl_hf.gp.greedy import Picked, first_best, tie
from itl_hf.gp.objectives import Objective, Picks
from itl_hf.gp.pool import Pool

FEWEST_PICKS, FIRST_PICKS, MOST_PICKS = 8, 16, 64
FEWEST_CANDIDATES, MOST_CANDIDATES = 1024, 8192
MOST_SUSPECTS = 4096
#: Columns of the last pass are kept while they fit in this much memory, to take back picks that did not stand; otherwise
#: they are computed again with the next pass.
COLUMN_BYTES = 256 * 2**20
#: The measured error of a float32 pass is that of a thousand rows; millions may do worse.
SAFETY = 8.0


@dataclass
class _Block:
    """One block of the pool: its numbers after the picks that were synchronised, in the precision of the pass."""

    start: int
    state: Tensor  # (k, B)
    prior: Tensor  # (B,)
    memory: RowMemory
    columns: Tensor | None = None  # (q, b, B), those of the last pass, while there is room for them


@dataclass(frozen=True)
class _Change:
    """Picks that the blocks have yet to hear of (sign 1), or to forget (sign -1)."""

    picks: Picks
    sign: float


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


class Search:
    """One selection in progress. `run` returns the picks; `objective` is left conditioned on them.

    Args:
        pool (`Pool`): the rows to pick from.
        objective (`Objective`): the objective, possibly conditioned already on rows known before.
        num_examples (`int`): picks to make.
        replace (`bool`, *optional*, defaults to `False`): whether a row may be picked again.
        on_picks (`Callable`, *optional*): called with the number of further picks that stand.
    """

    def __init__(
        self,
        pool: Pool,
        objective: Objective,
        num_examples: int,
        *,
        replace: bool = False,
        on_picks: Callable[[int], object] | None = None,
    ) -> None:
        self.pool, self.objective, self.replace = pool, objective, replace
        self.num_examples, self.on_picks = num_examples, on_picks
        self.room = objective.count + num_examples + MOST_PICKS
        self.free = torch.ones(pool.num_rows, dtype=torch.bool)
        self.indices: list[int] = []
        self.gains: list[float] = []
        self.passes = 0
        self.length, self.breadth = FIRST_PICKS, FEWEST_CANDIDATES
        self.candidates: Candidates | None = None
        self._start(torch.float32)

    def run(self) -> Picked:
        """Speculates and verifies until all picks stand."""
        while len(self.indices) < self.num_examples:
            self._round()
        return Picked(self.indices, self.gains, self.passes)

    def exclude(self, numbers: Sequence[int]) -> None:
        """Rows that may not be picked."""
        self.free[list(numbers)] = False

    # --- rounds -----------------------------------------------------------------------------------------------------

    def _round(self) -> None:
        candidates = self._choose_candidates()
        base = self.objective.count
        wanted = self.num_examples - len(self.indices)
        verified = len(candidates) < self._open_rows()
        run = self._speculate(
            candidates, min(self.length, wanted, max(1, len(candidates) // 2) if verified else wanted)
        )
        stands = len(run.places)
        if verified:
            suspects = self._verify(candidates, run, base)
            if suspects is None:  # float32 could not tell rows apart
                self.objective.forget(base)
                self._start(torch.float64)
                return
            stands = suspects.horizon
            if len(suspects.numbers) > self.breadth // 8:
                self.breadth = min(2 * self.breadth, MOST_CANDIDATES)
            if len(suspects.numbers):
                run, stands = self._settle(candidates, suspects, run, base)
            elif stands < len(run.places):
                self._replace(candidates, base + stands, run.places[stands:])
        self._commit(candidates, run, stands)

    def _speculate(
        self, candidates: Candidates, steps: int, expected: Sequence[int] = (), gone: Sequence[int] = ()
    ) -> Run:
        """Exact greedy steps among the candidates; up to the first that is not as expected, if something is."""
        run, state = Run(), candidates.state
        taken = torch.zeros(len(candidates), dtype=torch.bool, device=state.device)
        taken[list(gone)] = not self.replace
        known = candidates.memory.length
        for _ in range(steps):
            scores = self.objective.score(state, self.objective.count)
            place = first_best(scores.masked_fill(taken, -torch.inf), self.rounding)
            place = int(distributed.from_first(torch.tensor([place])))  # unequal machines may round differently
            taken[place] = not self.replace
            run.states.append(state)
            run.places.append(place)
            run.scores.append(float(scores[place]))
            state = self._observe(candidates, place, state)
            if expected and int(candidates.numbers[place]) != expected[len(run.places) - 1]:
                break
        run.states.append(state)
        candidates.memory.length = known
        return run

    def _observe(self, candidates: Candidates, place: int, state: Tensor) -> Tensor:
        objective = self.objective
        objective.observe(candidates.rows[place])
        picks = objective.picks(objective.count - 1, objective.count)
        columns = objective.columns(candidates.rows, candidates.memory.views(), picks)
        candidates.memory.append(columns)
        return objective.advance(state, columns, picks)

    def _settle(self, candidates: Candidates, suspects: Suspects, run: Run, base: int) -> tuple[Run, int]:
        """Runs the steps again with the suspects among the candidates, from the first that one of them reached.

        Returns the run and how many of its picks stand.
        """
        before, first = candidates.numbers[run.places].tolist(), suspects.first
        self.objective.forget(base + first)
        candidates.state = run.states[first]
        if self.objective.remembers:
            candidates.memory.length = base + first
        rows = self.pool.rows(suspects.numbers.tolist())
        candidates.join(Candidates.of(suspects.numbers, rows, self.objective, self.room))
        places = {number: place for place, number in enumerate(candidates.numbers.tolist())}
        old = [places[number] for number in before]
        again = self._speculate(candidates, len(before) - first, before[first:], old[:first])
        again = Run(
            old[:first] + again.places, run.scores[:first] + again.scores, again.states[:1] * first + again.states
        )
        same = len(again.places) if again.places == old[: len(again.places)] else len(again.places) - 1
        stands = min(same + 1, len(before), suspects.horizon)
        kept = min(same, stands)
        if kept == len(before):
            return again, kept
        self._replace(candidates, base + kept, old[kept:])
        for place in again.places[kept:stands]:
            self.objective.observe(candidates.rows[place])
        if stands > kept:
            self.changes.append(_Change(self.objective.picks(base + kept, base + stands), 1.0))
        return again, stands

    def _replace(self, candidates: Candidates, count: int, rejected: list[int]) -> None:
        """Leaves the objective with `count` picks, and tells the blocks to forget the rejected ones that they were told
        of.
        """
        self.objective.forget(count)
        if not rejected:
            return
        for place in rejected:
            self.objective.observe(candidates.rows[place])
        picks = self.objective.picks(count, count + len(rejected))
        self.objective.forget(count)
        if not self.keeps_columns:
            self.changes.append(_Change(picks, -1.0))
            return
        for block in self.blocks:
            columns = block.columns[:, -len(rejected) :]  # type: ignore[index]
            block.state = self.objective.advance(block.state, columns, picks.to(self.dtype), -1.0)
        self.synced = count

    def _commit(self, candidates: Candidates, run: Run, stands: int) -> None:
        chosen = candidates.numbers[run.places[:stands]]
        self.free[chosen.cpu()] = self.replace
        self.indices += chosen.tolist()
        gains = self.objective.gain(torch.tensor(run.scores[:stands], dtype=torch.float64))
        self.gains += distributed.from_first(gains).tolist()
        self._bring_up_to_date(candidates, run, stands)
        if stands == len(run.places):
            self.length = min(2 * self.length, MOST_PICKS)
        else:
            self.length = max(FEWEST_PICKS, min(self.length, 2 * stands))
        if self.on_picks is not None:
            self.on_picks(stands)

    def _bring_up_to_date(self, candidates: Candidates, run: Run, stands: int) -> None:
        """The candidates' rows carry on from the committed picks: their projections are those of the run."""
        candidates.state = run.states[stands]
        if self.objective.remembers:
            candidates.memory.length = self.objective.count
        self.candidates = candidates

    # --- candidates -------------------------------------------------------------------------------------------------

    def _open_rows(self) -> int:
        return self.pool.num_rows if self.replace else int(self.free.sum())

    def _choose_candidates(self) -> Candidates:
        """The free rows with the largest scores, exact; those that were candidates before are not computed again."""
        numbers = self._largest_scores()
        kept = self.candidates
        if kept is not None:
            kept.keep(torch.isin(kept.numbers, numbers).nonzero()[:, 0])
            numbers = numbers[~torch.isin(numbers, kept.numbers)]
            if len(numbers) == 0:
                return kept
        fresh = Candidates.of(numbers, self.pool.rows(numbers.tolist()), self.objective, self.room)
        if kept is None or len(kept) == 0:
            return fresh
        kept.join(fresh)
        return kept

    def _largest_scores(self) -> Tensor:
        scores, numbers = [], []
        for block in self.blocks:
            here = self._free_of(block)
            score = self.objective.score(block.state, min(self.objective.count, self.synced)).double()
            # What float32 cannot express (a share of 1, say) may well be the best: exact numbers decide.
            score = score.nan_to_num(nan=torch.inf).masked_fill(~here, -torch.inf)
            top = score.topk(min(self.breadth, len(score)))
            scores.append(top.values)
            numbers.append(top.indices + block.start)
        device = self.pool.device
        score = torch.cat(scores) if scores else torch.zeros(0, dtype=torch.float64, device=device)
        number = torch.cat(numbers) if numbers else torch.zeros(0, dtype=torch.int64, device=device)
        if len(score) > self.breadth:
            score, place = score.topk(self.breadth)
            number = number[place]
        score, number = distributed.gather_rows(score), distributed.gather_rows(number)
        # Ascending row numbers first, so that the stable sort leaves ties to the lowest.
        order = number.argsort()
        order = order[score[order].argsort(descending=True, stable=True)][: self.breadth]
        return number[order[score[order] > -torch.inf]].sort().values

    def _free_of(self, block: _Block) -> Tensor:
        return self.free[block.start : block.start + len(block.prior)].to(block.prior.device)

    # --- passes over the pool ---------------------------------------------------------------------------------------

    def _start(self, dtype: torch.dtype) -> None:
        """A first pass: every row's numbers before any pick, and the picks so far as a change that is yet to be
        told.
        """
        self.dtype = dtype
        self.blocks: list[_Block] = []
        largest = torch.zeros(1, dtype=torch.float64)
        for start, rows in self.pool.blocks(dtype):
            prior = self.objective.setting.kernel.diagonal(rows)
            state, memory = self.objective.begin(rows)
            self.blocks.append(
                _Block(start, state, prior, RowMemory(memory, len(self.objective.posteriors), self.room))
            )
            largest = torch.maximum(largest, prior.max().double().cpu()[None])
        self.largest = float(distributed.gather_rows(largest).max())
        self.rounding = self.objective.rounding(self.largest)
        self.error = 0.5 * torch.finfo(dtype).eps * self.pool.dimension**0.5
        columns = sum(len(block.prior) for block in self.blocks) * len(self.objective.posteriors) * MOST_PICKS
        self.keeps_columns = distributed.total(torch.tensor(columns)) * dtype.itemsize <= COLUMN_BYTES
        self.synced = 0
        count = self.objective.count
        self.changes = [_Change(self.objective.picks(0, count), 1.0)] if count else []
        self.passes += 1

    def _verify(self, candidates: Candidates, run: Run, base: int) -> Suspects | None:
        """One pass: rows that might beat a speculated pick; `None` when float32 leaves too many of them."""
        picks = self.objective.picks(base, base + len(run.places)).to(self.dtype)
        changes = [_Change(change.picks.to(self.dtype), change.sign) for change in self.changes]
        chosen = candidates.numbers[run.places]
        exact = dict(zip(candidates.numbers.tolist(), range(len(candidates)), strict=True))
        found = [self._pass(block, changes, picks, run, base, chosen, candidates.numbers) for block in self.blocks]
        self._measure_error(candidates, run, exact)
        self.changes, self.synced = [], base + len(run.places)
        self.passes += 1
        empty = torch.zeros(0, 2, dtype=torch.int64)
        suspects = distributed.gather_rows(torch.cat([empty, *found]))  # (V, 2): row number, first step
        return self._narrow(suspects, candidates, run)

    def _pass(
        self,
        block: _Block,
        changes: list[_Change],
        picks: Picks,
        run: Run,
        base: int,
        chosen: Tensor,
        candidates: Tensor,
    ) -> Tensor:
        """Brings one block up to date and returns its suspects, (V, 2): row number, first step."""
        rows, objective = self.pool.block(block.start, self.dtype), self.objective
        for change in changes:
            columns = self._columns(block, rows, change.picks)
            block.state = objective.advance(block.state, columns, change.picks, change.sign)
            if change.sign > 0:
                block.memory.append(columns)
        columns = self._columns(block, rows, picks)
        block.memory.append(columns)
        block.columns = columns if self.keeps_columns else None
        numbers = torch.arange(block.start, block.start + len(rows), device=rows.device)
        slack = block.prior * (SAFETY * self.error)
        reached = torch.empty(len(picks), len(rows), dtype=torch.bool, device=rows.device)
        for step, score in enumerate(run.scores):
            bound = objective.upper(block.state, slack, base + step)
            margin = tie(score, self.rounding)
            torch.ge(bound, score + margin, out=reached[step])
            # An equal row wins only with a lower number.
            reached[step] |= (bound >= score - margin) & (numbers < chosen[step])
            block.state = objective.advance(block.state, columns[:, step : step + 1], picks.at(step))
        reached &= self._free_of(block) & ~torch.isin(numbers, candidates)
        places = reached.any(0).nonzero()[:, 0]
        first = reached[:, places].int().argmax(0)
        return torch.stack([numbers[places], first], dim=1).cpu()

    def _columns(self, block: _Block, rows: Tensor, picks: Picks) -> Tensor:
        """The picks' columns; the block's memory is first cut back to what came before them."""
        if self.objective.remembers:
            block.memory.length = picks.first
        return self.objective.columns(rows, block.memory.views(), picks)

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
        rows = self.pool.rows(suspects[:, 0].tolist())
        left = torch.ones(len(candidates), dtype=torch.bool)
        left[run.places] = self.replace
        lowest: dict[int, int] = {}
        for mark, number in zip(_marks(candidates.rows)[left].tolist(), candidates.numbers[left].tolist(), strict=True):
            lowest.setdefault(mark, number)
        pairs = zip(_marks(rows).tolist(), suspects[:, 0].tolist(), strict=True)
        wins = torch.tensor([lowest.get(mark, number) >= number for mark, number in pairs], dtype=torch.bool)
        suspects = suspects[wins]
        first = int(suspects[0, 1]) if len(suspects) else steps
        return Suspects(suspects[:, 0].sort().values, first, steps)

    def _measure_error(self, candidates: Candidates, run: Run, exact: dict[int, int]) -> None:
        """The largest error of the pass on rows whose exact numbers are known, relative to their prior variance."""
        worst = torch.zeros(1, dtype=torch.float64)
        for block in self.blocks:
            inside = (candidates.numbers >= block.start) & (candidates.numbers < block.start + len(block.prior))
            places = inside.nonzero()[:, 0]
            if len(places) == 0:
                continue
            here = candidates.numbers[places] - block.start
            scale = self.objective.scales(block.prior[here].double())  # (k, ...)
            error = (block.state[:, here].double() - run.states[-1][:, places]).abs() / scale
            worst = torch.maximum(worst, error.max().cpu()[None])
        self.error = max(self.error, float(distributed.gather_rows(worst).max()))


def _marks(rows: Tensor) -> Tensor:
    """A number for each row that equal rows share, (B, d) float64 -> (B,) int64: integer arithmetic, so to the last
    bit.
    """
    generator = torch.Generator().manual_seed(0)
    weights = torch.randint(-(2**62), 2**62, (rows.shape[1],), generator=generator).to(rows.device) | 1
    return (rows.contiguous().view(torch.int64) * weights).sum(1)


def speculative_greedy(
    pool: Pool,
    objective: Objective,
    num_examples: int,
    *,
    replace: bool = False,
    exclude: Sequence[int] = (),
    on_picks: Callable[[int], object] | None = None,
) -> Picked:
    """The picks of `plain_greedy`, in a few passes over the pool; arguments as in `Search`."""
    search = Search(pool, objective, num_examples, replace=replace, on_picks=on_picks)
    search.exclude(exclude)
    return search.run()
