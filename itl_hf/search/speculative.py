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

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import each
from itl_hf.objectives.base import Objective
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.search.candidates import Candidates, Run
from itl_hf.search.exactness import Best, first_best, gain_uncertainty
from itl_hf.search.finite import is_finite, refuse_non_finite
from itl_hf.search.gains import gains_of
from itl_hf.search.greedy import GreedyPicks
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
        self.verifier = PoolVerifier(pool, objective, availability, self.capacity, MOST_PICKS)
        self.verifier.is_free[list(exclude)] = False
        self.indices: list[int] = []
        self.uncertainties: list[float] = []
        self.num_steps, self.num_candidates = FIRST_PICKS, FEWEST_CANDIDATES
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
        open_rows = self.verifier.open_rows()
        num_open = int(open_rows.sum())
        if num_open == 0:
            return False
        candidates, num_before = self._choose_candidates(open_rows), self.objective.num_observations
        remaining = self.availability.num_examples - len(self.indices)
        needs_pass = len(candidates.indices) < num_open
        snapshot = self.availability.snapshot()
        # Where all open rows are candidates, all remaining picks are made in one run, unless `stop` may end it earlier.
        num_steps = min(self.num_steps, remaining) if needs_pass or self.stop is not None else remaining
        if needs_pass:
            num_steps = min(num_steps, max(1, len(candidates.indices) // 2))
        run = self._speculate(candidates, num_steps)
        num_accepted = num_steps = len(run.positions)
        if needs_pass:
            suspects = self.verifier.verify(candidates, run, num_before)
            if suspects is None:  # the scores of too many rows are too close for float32
                self.objective.truncate(num_before)
                self.availability.restore(snapshot)
                self.verifier.initialize(torch.float64)
                return True
            if len(suspects.indices):
                run, num_accepted = self._rerun_with_suspects(candidates, suspects, run, num_before, snapshot)
            elif suspects.horizon < num_steps:
                num_accepted = suspects.horizon
                self._reject(candidates, num_before + num_accepted, run.positions[num_accepted:])
            if 4 * num_accepted < 3 * num_steps:
                # Too few candidates cut runs short, and every one makes each step slower, much more so when they
                # outgrow the cache. Where a pass costs far more than that, they may.
                most = max(CANDIDATE_BYTES // (8 * self.pool.dimension), self.pool.num_rows // CANDIDATE_SHARE)
                more = min(2 * self.num_candidates, most, MOST_CANDIDATES)
                self.num_candidates = max(self.num_candidates, more)
        self.availability.restore(snapshot)
        self._accept(candidates, run, num_accepted)
        return True

    def _speculate(
        self,
        candidates: Candidates,
        num_steps: int,
        expected_indices: Sequence[int] = (),
        closed_positions: Sequence[int] = (),
    ) -> Run:
        """Takes exact greedy steps among the candidates, up to the first whose pick is not the expected one, if some
        are expected.
        """
        objective, cache = self.objective, candidates.cache
        run, stats, cache_length = Run(), candidates.stats, cache.length
        quality = self.pool.quality_of(candidates.indices)
        is_closed = torch.zeros(len(candidates.indices), dtype=torch.bool, device=stats.device)
        is_closed[list(closed_positions)] = not self.replace
        for step in range(num_steps):
            availability, unavailable = self.availability.current(), is_closed
            if self.availability.is_constrained:
                is_open = self.availability.mask(availability, candidates.indices.cpu())
                if is_open is not None:
                    unavailable = is_closed | ~is_open.to(is_closed.device)
            best = first_best(objective, stats, candidates.scales, quality, unavailable)
            if best.score == -math.inf:  # all are closed
                break
            if distributed.world_size() > 1:  # unequal machines may round differently
                best = Best.from_tensor(distributed.broadcast_from_first(best.to_tensor()))
            position = best.position
            index = int(candidates.indices[position])
            run.positions.append(position)
            run.scores.append(best.score)
            run.margins.append(best.margin)
            run.uncertainties.append(gain_uncertainty(objective, best))
            run.stats.append(stats)
            run.availability.append(availability)
            is_closed[position] = not self.replace
            self.availability.record_pick(index)
            self._observe(candidates, position)
            observations = objective.observations(objective.num_observations - 1, objective.num_observations)
            projections = objective.project(candidates.rows, cache.tables(), observations)
            cache.append(projections)
            stats = objective.update(stats, projections, observations)
            if not is_finite([stats]):
                raise self._non_finite(candidates, run)
            if expected_indices and index != expected_indices[step]:
                break
        run.stats.append(stats)
        cache.length = cache_length
        return run

    def _non_finite(self, candidates: Candidates, run: Run) -> ValueError:
        """Raises or returns the error for candidates or picks with a kernel that is not finite."""
        picks = torch.tensor(self.indices + candidates.indices[run.positions].tolist(), dtype=torch.int64)
        rows = self.pool.rows(picks.tolist())
        return refuse_non_finite(self.objective.gp, candidates.rows, candidates.indices, rows, picks)

    def _observe(self, candidates: Candidates, position: int) -> None:
        """Adds a candidate to the objective as a pick."""
        quality = self.pool.quality_of(candidates.indices[position : position + 1])
        self.objective.observe(candidates.rows[position], each(quality, 1)[0])

    def _rerun_with_suspects(
        self,
        candidates: Candidates,
        suspects: Suspects,
        run: Run,
        num_before: int,
        snapshot: tuple[float, int, Tensor],
    ) -> tuple[Run, int]:
        """Takes the steps again with the suspects among the candidates, from the first that one of them reached.

        Returns:
            `tuple`: The run, and how many of its picks are accepted.
        """
        pick_indices, first = candidates.indices[run.positions].tolist(), suspects.first_step
        self.objective.truncate(num_before + first)
        candidates.stats = run.stats[first]
        if self.objective.uses_projection_cache:
            candidates.cache.length = num_before + first
        rows = self.pool.rows(suspects.indices.tolist())
        suspect_rows = Candidates.from_rows(suspects.indices.to(rows.device), rows, self.objective, self.capacity)
        candidates.join(suspect_rows)
        position_of = {index: position for position, index in enumerate(candidates.indices.tolist())}
        old_positions = [position_of[index] for index in pick_indices]
        self.availability.restore(snapshot)
        for index in pick_indices[:first]:
            self.availability.record_pick(index)
        num_steps = suspects.horizon - first
        tail = self._speculate(candidates, num_steps, pick_indices[first:], old_positions[:first])
        new_run = run.replace_tail(old_positions, first, tail)
        num_new = len(new_run.positions)
        num_equal = num_new if new_run.positions == old_positions[:num_new] else num_new - 1
        num_accepted = min(num_equal + 1, num_new, suspects.horizon)
        num_kept = min(num_equal, num_accepted)
        if num_kept == len(old_positions):
            return new_run, num_kept
        self._reject(candidates, num_before + num_kept, old_positions[num_kept:])
        for position in new_run.positions[num_kept:num_accepted]:
            self._observe(candidates, position)
        if num_accepted > num_kept:
            self.verifier.apply(num_before + num_kept, num_before + num_accepted)
        return new_run, num_accepted

    def _reject(self, candidates: Candidates, num_observations: int, rejected_positions: list[int]) -> None:
        """Leaves the objective with so many picks, and rolls back the rejected ones in the pool's blocks."""
        self.objective.truncate(num_observations)
        if self.verifier.keeps_projections:
            self.verifier.rollback_now(num_observations)
            return
        for position in rejected_positions:
            self._observe(candidates, position)
        self.verifier.rollback(num_observations, num_observations + len(rejected_positions))
        self.objective.truncate(num_observations)

    def _accept(self, candidates: Candidates, run: Run, num_accepted: int) -> None:
        pick_indices = candidates.indices[run.positions[:num_accepted]].tolist()
        for index in pick_indices:
            self.availability.record_pick(index)
        self.verifier.is_free[pick_indices] = self.replace
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

    def _choose_candidates(self, open_rows: Tensor) -> Candidates:
        """Returns the open rows with the largest scores, with exact statistics; those of rows that were candidates
        before are not computed again.
        """
        indices = self.verifier.largest_scores(open_rows, self.num_candidates)
        candidates = self.candidates
        if candidates is not None:
            candidates.keep_rows(torch.isin(candidates.indices, indices).nonzero()[:, 0])
            indices = indices[~torch.isin(indices, candidates.indices)]
            if len(indices) == 0:
                return candidates
        rows = self.pool.rows(indices.tolist())
        new_candidates = Candidates.from_rows(indices, rows, self.objective, self.capacity)
        if not is_finite([new_candidates.stats]):
            raise self._non_finite(new_candidates, Run())
        if candidates is None or len(candidates.indices) == 0:
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
