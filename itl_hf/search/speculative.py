"""Exact greedy selection at the speed of matrix products: speculate, then verify.

Plain greedy reads the whole pool for every pick. Here, for a block of b picks:

1. *Speculate.* Among the M rows with the largest gains, run b exact greedy steps in float64.
2. *Verify.* One pass over the pool, in float32 where the noise allows: a matrix product gives every row's numbers at
   each of the b steps, and so an upper bound of its score. A row whose bound reaches the speculated pick's score is
   *suspect*.
3. *Commit.* With suspects, the steps are run again among candidates and suspects together; no other row can have won
   any step up to and including the first whose pick changes, so those picks stand. Without suspects all b stand.

The picks are those of plain greedy in float64, whatever b, M, the precision of the pass, and the number of processes:
these change only how often the pool is read. A float32 pass that cannot tell rows apart (tiny noise) is given up for a
float64 one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.objectives.base import Objective
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.search.candidates import Candidates, Run
from itl_hf.search.gains import gains_of
from itl_hf.search.greedy import GreedyPicks, first_best
from itl_hf.search.verification import PoolVerifier, Suspects

FEWEST_PICKS, FIRST_PICKS, MOST_PICKS = 8, 16, 64
FEWEST_CANDIDATES, MOST_CANDIDATES = 512, 8192
#: What a core's cache holds, and the share of the pool (one in so many rows) that is still little beside a pass.
CANDIDATE_BYTES, CANDIDATE_SHARE = 8 * 2**20, 64


class Search:
    """One selection in progress. `run` returns the picks; `objective` is left conditioned on them.

    Args:
        pool (`Pool`):
            The rows to pick from.
        objective (`Objective`):
            The objective, possibly conditioned already on rows known before.
        limits (`AvailabilityTracker`):
            How many picks to make, and what they may not exceed.
        replace (`bool`, *optional*, defaults to `False`):
            Whether a row may be picked again.
        exclude (`Sequence[int]`, *optional*):
            Rows that may not be picked.
        on_picks (`Callable`, *optional*):
            Called with the number of further picks that stand.
        stop (`Callable`, *optional*):
            Called with the objective and the gains so far; how many picks to keep if that is enough, else `None`.
    """

    def __init__(
        self,
        pool: Pool,
        objective: Objective,
        limits: AvailabilityTracker,
        *,
        replace: bool = False,
        exclude: Sequence[int] = (),
        on_picks: Callable[[int], object] | None = None,
        stop: Callable[[Objective, list[float]], int | None] | None = None,
    ) -> None:
        self.pool, self.objective, self.limits, self.replace = pool, objective, limits, replace
        self.on_picks, self.stop = on_picks, stop
        self.room = objective.count + limits.num_examples + MOST_PICKS
        self.passes = PoolVerifier(pool, objective, limits, self.room, MOST_PICKS)
        self.passes.free[list(exclude)] = False
        self.indices: list[int] = []
        self.length, self.breadth = FIRST_PICKS, FEWEST_CANDIDATES
        self.candidates: Candidates | None = None

    def run(self) -> GreedyPicks:
        """Speculates and verifies until all picks stand, nothing is open any more, or it is enough."""
        enough: int | None = None
        gains: list[float] = []
        while len(self.indices) < self.limits.num_examples and enough is None:
            before = len(self.indices)
            if not self._round():
                break
            if self.stop is not None and len(self.indices) > before:
                gains = self._final_gains()
                enough = self.stop(self.objective, gains)
        if self.stop is None:
            gains = self._final_gains()
        return GreedyPicks(self.indices[:enough], gains[:enough], self.passes.count)

    def _final_gains(self) -> list[float]:
        if not self.indices:
            return []
        rows = self.pool.rows(self.indices)
        if not self.pool.row_by_row:  # the same rows in other company differ in their last bits
            self.objective.forget(self.objective.count - len(rows))
            for row in rows:
                self.objective.observe(row)
        gains: list[float] = distributed.broadcast_from_first(gains_of(self.objective, rows)).tolist()
        return gains

    def _round(self) -> bool:
        """A block of picks; False if no row is open."""
        open_rows = self.passes.open_rows(self.replace)
        if open_rows == 0:
            return False
        candidates, base = self._choose_candidates(), self.objective.count
        wanted = self.limits.num_examples - len(self.indices)
        verified = len(candidates) < open_rows
        mark = self.limits.mark()
        # Where nothing is left to verify, all that remains is picked in one run, unless somebody wants to stop early.
        steps = min(self.length, wanted) if verified or self.stop is not None else wanted
        run = self._speculate(candidates, min(steps, max(1, len(candidates) // 2)) if verified else steps)
        stands = len(run.places)
        if verified:
            suspects = self.passes.verify(candidates, run, base)
            if suspects is None:  # float32 could not tell rows apart
                self.objective.forget(base)
                self.limits.back_to(mark)
                self.passes.start(torch.float64)
                return True
            steps = stands
            if len(suspects.numbers):
                run, stands = self._settle(candidates, suspects, run, base, mark)
            elif suspects.horizon < stands:
                stands = suspects.horizon
                self._take_back(candidates, base + stands, run.places[stands:])
            self._adapt(stands, steps)
        self.limits.back_to(mark)
        self._commit(candidates, run, stands)
        return True

    def _adapt(self, stands: int, steps: int) -> None:
        """How many candidates the next run has: too few cut runs short, and every one makes each step dearer, much
        more so when they outgrow the cache. Where a pass costs far more than that, they may.
        """
        most = max(CANDIDATE_BYTES // (8 * self.pool.dimension), self.pool.num_rows // CANDIDATE_SHARE)
        if 4 * stands < 3 * steps:
            self.breadth = max(self.breadth, min(2 * self.breadth, most, MOST_CANDIDATES))

    def _speculate(
        self, candidates: Candidates, steps: int, expected: Sequence[int] = (), gone: Sequence[int] = ()
    ) -> Run:
        """Exact greedy steps among the candidates; up to the first that is not as expected, if something is."""
        run, state = Run(), candidates.state
        closed = torch.zeros(len(candidates), dtype=torch.bool, device=state.device)
        closed[list(gone)] = not self.replace
        known = candidates.memory.length
        for step in range(steps):
            opening = self.limits.opening()
            limited = self.limits.mask(opening, candidates.numbers.cpu()) if self.limits.bind else None
            shut = closed if limited is None else closed | ~limited.to(closed.device)
            scores = self.objective.score(state, self.objective.count).masked_fill_(shut, -torch.inf)
            place, score = first_best(scores, self.passes.rounding)
            if score == -math.inf:  # all are closed
                break
            if distributed.world_size() > 1:  # unequal machines may round differently
                place = int(distributed.broadcast_from_first(torch.tensor([place])))
                score = float(scores[place])
            closed[place] = not self.replace
            run.add(place, score, state, opening)
            self.limits.take(int(candidates.numbers[place]))
            state = self._observe(candidates, place, state)
            if expected and int(candidates.numbers[place]) != expected[step]:
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

    def _settle(
        self, candidates: Candidates, suspects: Suspects, run: Run, base: int, mark: tuple[float, int, Tensor]
    ) -> tuple[Run, int]:
        """Runs the steps again with the suspects among the candidates, from the first that one of them reached.

        Returns the run and how many of its picks stand.
        """
        before, first = candidates.numbers[run.places].tolist(), suspects.first
        self.objective.forget(base + first)
        candidates.state = run.states[first]
        if self.objective.remembers:
            candidates.memory.length = base + first
        rows = self.pool.rows(suspects.numbers.tolist())
        candidates.join(Candidates.of(suspects.numbers.to(rows.device), rows, self.objective, self.room))
        places = {number: place for place, number in enumerate(candidates.numbers.tolist())}
        old = [places[number] for number in before]
        self.limits.back_to(mark)
        for number in before[:first]:
            self.limits.take(number)
        rest = self._speculate(candidates, suspects.horizon - first, before[first:], old[:first])
        again = run.resume(old, first, rest)
        same = len(again.places) if again.places == old[: len(again.places)] else len(again.places) - 1
        stands = min(same + 1, len(again.places), suspects.horizon)
        kept = min(same, stands)
        if kept == len(old):
            return again, kept
        self._take_back(candidates, base + kept, old[kept:])
        for place in again.places[kept:stands]:
            self.objective.observe(candidates.rows[place])
        if stands > kept:
            self.passes.tell(base + kept, base + stands)
        return again, stands

    def _take_back(self, candidates: Candidates, count: int, rejected: list[int]) -> None:
        """Leaves the objective with `count` picks; the blocks were told of the rejected ones and must forget them."""
        self.objective.forget(count)
        if self.passes.keeps_columns:
            self.passes.take_back_kept(count)
            return
        for place in rejected:
            self.objective.observe(candidates.rows[place])
        self.passes.take_back(count, count + len(rejected))
        self.objective.forget(count)

    def _commit(self, candidates: Candidates, run: Run, stands: int) -> None:
        chosen = candidates.numbers[run.places[:stands]].tolist()
        for number in chosen:
            self.limits.take(number)
        self.passes.free[chosen] = self.replace
        self.indices += chosen
        candidates.state = run.states[stands]  # the rows carry on from the picks that stand
        if self.objective.remembers:
            candidates.memory.length = self.objective.count
        self.candidates = candidates
        # Blocks after one that ended the run are walked no further, so a run that is too long costs little.
        self.length = max(FEWEST_PICKS, min(2 * stands, MOST_PICKS))
        if self.on_picks is not None:
            self.on_picks(stands)

    def _choose_candidates(self) -> Candidates:
        """The open rows with the largest scores, exact; those that were candidates before are not computed again."""
        numbers = self.passes.largest_scores(self.breadth)
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


def speculative_greedy(
    pool: Pool,
    objective: Objective,
    num_examples: int,
    *,
    limits: AvailabilityTracker | None = None,
    replace: bool = False,
    exclude: Sequence[int] = (),
    on_picks: Callable[[int], object] | None = None,
    stop: Callable[[Objective, list[float]], int | None] | None = None,
) -> GreedyPicks:
    """The picks of `plain_greedy`, in a few passes over the pool; arguments as in `Search`."""
    limits = limits or AvailabilityTracker(num_examples)
    return Search(pool, objective, limits, replace=replace, exclude=exclude, on_picks=on_picks, stop=stop).run()
