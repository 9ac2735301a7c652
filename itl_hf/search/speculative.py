"""Exact greedy selection at the speed of matrix products: speculate, then verify.

Plain greedy reads the whole pool for every pick. Here, for a run of b picks:

1. *Speculate.* Among the M rows with the largest gains, the candidates, take b exact greedy steps in float64.
2. *Verify.* One pass over the pool, in float32 where the noise allows: a matrix product gives every row's statistics at
   each of the b steps, and so an upper bound of its score. A row whose bound reaches the speculated pick's score is a
   *suspect*.
3. *Accept.* With suspects, the steps are taken again among candidates and suspects together. No other row can have won
   any step up to and including the first whose pick changes, so the picks up to there are accepted. Without suspects
   all b are accepted.

The picks are those of plain greedy in float64, whatever b, M, the precision of the pass, and the number of processes:
these change only how often the pool is read. Where the scores of too many rows are too close for float32 (tiny noise),
the search goes on with float64 passes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import each
from itl_hf.objectives.base import Objective
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.search.candidates import Candidates, Run
from itl_hf.search.gains import gains_of
from itl_hf.search.greedy import GreedyPicks
from itl_hf.search.limits import Limits, upload
from itl_hf.search.speculation import Speculator
from itl_hf.search.verification import PoolVerifier, Suspects

FEWEST_PICKS, FIRST_PICKS, MOST_PICKS = 8, 16, 64
FEWEST_CANDIDATES, MOST_CANDIDATES = 512, 8192
#: The candidates' rows may take what fits in a core's cache, or one in so many rows of the pool, which is still little
#: beside a pass.
CANDIDATE_BYTES, CANDIDATE_SHARE = 8 * 2**20, 64


class Search:
    """One selection in progress. `run` returns the picks; `objective` is left conditioned on them.

    Args:
        pool (`Pool`):
            The rows to pick from.
        objective (`Objective`):
            The objective, possibly conditioned already on rows that were trained on before.
        availability (`AvailabilityTracker`):
            How many picks to make, and which rows may be picked.
        replace (`bool`, *optional*, defaults to `False`):
            Whether a row may be picked again.
        exclude (`Sequence[int]`, *optional*):
            Rows that may not be picked.
        on_picks (`Callable`, *optional*):
            Called with the number of further accepted picks.
        stop (`Callable`, *optional*):
            Called with the objective and the gains so far; returns how many picks to keep to end the search, or `None`.
    """

    def __init__(
        self,
        pool: Pool,
        objective: Objective,
        availability: AvailabilityTracker,
        *,
        replace: bool = False,
        exclude: Sequence[int] = (),
        on_picks: Callable[[int], object] | None = None,
        stop: Callable[[Objective, list[float]], int | None] | None = None,
    ) -> None:
        self.pool, self.objective, self.availability, self.replace = pool, objective, availability, replace
        self.on_picks, self.stop = on_picks, stop
        self.capacity = objective.num_observations + availability.num_examples + MOST_PICKS
        limits = Limits(availability, pool.device)
        self.verifier = PoolVerifier(pool, objective, limits, self.capacity, MOST_PICKS)
        self.verifier.close_rows(exclude)
        self.indices: list[int] = []
        self.speculator = Speculator(pool, objective, limits, replace, self.indices)
        self.uncertainties: list[float] = []
        self.num_steps, self.num_candidates = FIRST_PICKS, FEWEST_CANDIDATES
        if not objective.uses_projection_cache:  # otherwise every candidate costs as much again for each earlier pick
            cheap = min(CANDIDATE_BYTES // (8 * pool.dimension), pool.num_rows // CANDIDATE_SHARE)
            self.num_candidates = max(FEWEST_CANDIDATES, min(cheap, MOST_CANDIDATES))
        self.candidates: Candidates | None = None

    def run(self) -> GreedyPicks:
        """Speculates and verifies until all picks are made, no row is open, or `stop` ends the search."""
        num_to_keep: int | None = None
        gains: list[float] = []
        while len(self.indices) < self.availability.num_examples and num_to_keep is None:
            num_picks = len(self.indices)
            if not self._speculate_and_verify():
                break
            if self.stop is not None and len(self.indices) > num_picks:
                gains = self._final_gains()
                num_to_keep = self.stop(self.objective, gains)
        if self.stop is None:
            gains = self._final_gains()
        uncertainties = tuple(self.uncertainties[:num_to_keep])
        return GreedyPicks(self.indices[:num_to_keep], gains[:num_to_keep], self.verifier.num_passes, uncertainties)

    def _final_gains(self) -> list[float]:
        if not self.indices:
            return []
        rows = self.pool.rows(self.indices)
        if not self.pool.row_by_row:  # the same rows prepared together with others differ in their last bits
            self.objective.truncate(self.objective.num_observations - len(rows))
            for row, quality in zip(rows, each(self.pool.quality_of(self.indices), len(rows)), strict=True):
                self.objective.observe(row, quality)
        gains_tensor = gains_of(self.objective, rows, self.pool.quality_of(self.indices))
        gains: list[float] = distributed.broadcast_from_first(gains_tensor).tolist()
        return gains

    def _speculate_and_verify(self) -> bool:
        """Makes some picks; returns False if no row is open."""
        numbers, num_open = self.verifier.largest_scores(self.num_candidates)
        if num_open == 0:
            return False
        candidates, num_before = self._choose_candidates(numbers), self.objective.num_observations
        remaining = self.availability.num_examples - len(self.indices)
        needs_pass = len(candidates.numbers) < num_open
        # Where all open rows are candidates, all remaining picks are made in one run, unless `stop` may end it earlier.
        num_steps = min(self.num_steps, remaining) if needs_pass or self.stop is not None else remaining
        if needs_pass:
            num_steps = min(num_steps, max(1, len(candidates.numbers) // 2))
        run = self.speculator.run(candidates, num_steps)
        num_accepted = num_steps = len(run.positions)
        if needs_pass:
            suspects = self.verifier.verify(candidates, run, num_before)
            if suspects is None:  # the scores of too many rows are too close for float32
                self.objective.truncate(num_before)
                self.verifier.initialize(torch.float64)
                return True
            if len(suspects.indices):
                run, num_accepted = self._rerun_with_suspects(candidates, suspects, run, num_before)
            elif suspects.horizon < num_steps:
                num_accepted = suspects.horizon
                self._reject(candidates, num_before + num_accepted, run.positions[num_accepted:])
            if 4 * num_accepted < 3 * num_steps:
                # Too few candidates cut runs short, and every one makes each step slower, much more so when they
                # outgrow the cache. Where a pass costs far more than that, they may.
                most = max(CANDIDATE_BYTES // (8 * self.pool.dimension), self.pool.num_rows // CANDIDATE_SHARE)
                more = min(2 * self.num_candidates, most, MOST_CANDIDATES)
                self.num_candidates = max(self.num_candidates, more)
        self._accept(candidates, run, num_accepted)
        return True

    def _rerun_with_suspects(
        self, candidates: Candidates, suspects: Suspects, run: Run, num_before: int
    ) -> tuple[Run, int]:
        """Takes the steps again with the suspects among the candidates, from the first that one of them reached.

        Returns:
            `tuple`: The run, and how many of its picks are accepted.
        """
        pick_indices, first = candidates.numbers[run.positions].tolist(), suspects.first_step
        self.objective.truncate(num_before + first)
        candidates.stats = run.stats[first]
        if self.objective.uses_projection_cache:
            candidates.cache.length = num_before + first
        rows = self.pool.rows(suspects.indices.tolist())
        candidates.join(Candidates.from_rows(suspects.indices, rows, self.objective, self.capacity))
        position_of = {index: position for position, index in enumerate(candidates.numbers.tolist())}
        old_positions = [position_of[index] for index in pick_indices]
        snapshot = self.availability.snapshot()
        for index in pick_indices[:first]:
            self.availability.record_pick(index)
        num_steps = suspects.horizon - first
        tail = self.speculator.run(candidates, num_steps, pick_indices[first:], old_positions[:first])
        self.availability.restore(snapshot)
        new_run = run.replace_tail(old_positions, first, tail)
        num_new = len(new_run.positions)
        num_equal = num_new if new_run.positions == old_positions[:num_new] else num_new - 1
        num_accepted = min(num_equal + 1, num_new, suspects.horizon)
        num_kept = min(num_equal, num_accepted)
        if num_kept == len(old_positions):
            return new_run, num_kept
        self._reject(candidates, num_before + num_kept, old_positions[num_kept:])
        self._observe(candidates, new_run.positions[num_kept:num_accepted])
        if num_accepted > num_kept:
            self.verifier.apply(num_before + num_kept, num_before + num_accepted)
        return new_run, num_accepted

    def _reject(self, candidates: Candidates, num_observations: int, rejected_positions: list[int]) -> None:
        """Leaves the objective with so many picks, and rolls back the rejected ones in the pool's blocks."""
        self.objective.truncate(num_observations)
        if self.verifier.keeps_projections:
            self.verifier.rollback_now(num_observations)
            return
        self._observe(candidates, rejected_positions)
        self.verifier.rollback(num_observations, num_observations + len(rejected_positions))
        self.objective.truncate(num_observations)

    def _observe(self, candidates: Candidates, positions: list[int]) -> None:
        """Adds candidates to the objective as picks."""
        device_positions = upload(torch.tensor(positions, dtype=torch.int64), candidates.rows.device)
        for step in range(len(positions)):
            self.speculator.observe(candidates, device_positions[step : step + 1])

    def _accept(self, candidates: Candidates, run: Run, num_accepted: int) -> None:
        pick_indices = candidates.numbers[run.positions[:num_accepted]].tolist()
        for index in pick_indices:
            self.availability.record_pick(index)
        if not self.replace:
            self.verifier.close_rows(pick_indices)
        self.indices += pick_indices
        self.uncertainties += run.uncertainties[:num_accepted]
        candidates.stats = run.stats[num_accepted]
        if self.objective.uses_projection_cache:
            candidates.cache.length = self.objective.num_observations
        self.candidates = candidates
        # Blocks after one that ended the run verify no further steps, so a run that is too long costs little.
        self.num_steps = max(FEWEST_PICKS, min(2 * num_accepted, MOST_PICKS))
        if self.on_picks is not None:
            self.on_picks(num_accepted)

    def _choose_candidates(self, numbers: Tensor) -> Candidates:
        """Returns the rows of these numbers, (M,) on the CPU, with exact statistics; those of rows that were candidates
        before are not computed again.
        """
        candidates = self.candidates
        if candidates is not None:
            candidates.keep_rows(torch.isin(candidates.numbers, numbers).nonzero()[:, 0])
            numbers = numbers[~torch.isin(numbers, candidates.numbers)]
            if len(numbers) == 0:
                return candidates
        rows = self.pool.rows(numbers.tolist())
        new_candidates = Candidates.from_rows(numbers, rows, self.objective, self.capacity)
        if candidates is None or len(candidates.numbers) == 0:
            return new_candidates
        candidates.join(new_candidates)
        return candidates


def speculative_greedy(
    pool: Pool,
    objective: Objective,
    num_examples: int,
    *,
    availability: AvailabilityTracker | None = None,
    replace: bool = False,
    exclude: Sequence[int] = (),
    on_picks: Callable[[int], object] | None = None,
    stop: Callable[[Objective, list[float]], int | None] | None = None,
) -> GreedyPicks:
    """Makes the picks of `plain_greedy` in a few passes over the pool. `objective` is left conditioned on them.

    Args:
        pool (`Pool`):
            The rows to pick from.
        objective (`Objective`):
            The objective, possibly conditioned already on rows that were trained on before.
        num_examples (`int`):
            How many rows to pick.
        availability (`AvailabilityTracker`, *optional*):
            Which rows may be picked; all of them when left out.
        replace (`bool`, *optional*, defaults to `False`):
            Whether a row may be picked again.
        exclude (`Sequence[int]`, *optional*):
            Rows that may not be picked.
        on_picks (`Callable`, *optional*):
            Called with the number of further accepted picks.
        stop (`Callable`, *optional*):
            Called with the objective and the gains so far; returns how many picks to keep to end the search, or `None`.
    """
    availability = availability or AvailabilityTracker(num_examples)
    search = Search(pool, objective, availability, replace=replace, exclude=exclude, on_picks=on_picks, stop=stop)
    return search.run()
