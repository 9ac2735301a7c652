"""Exact greedy steps among the candidates, in float64.

The host does not wait for a step: which row is picked goes on to the next step in tensors on the device. The numbers of
a run are read once, after up to `STEPS_BETWEEN_READS` steps. On the CPU, where nothing has to wait, a run ends at once
when it has to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import Quality
from itl_hf.objectives.base import Objective
from itl_hf.search.candidates import Candidates, Run
from itl_hf.search.exactness import Best, check_score, first_best, gain_uncertainties, rounding_slack
from itl_hf.search.finite import is_finite, refuse_non_finite
from itl_hf.search.limits import Limits, OpenRows, UsedLimits, upload

#: Steps that are taken on a device before the host reads what they picked.
STEPS_BETWEEN_READS = 64


@dataclass
class RunState:
    """A run in progress; tensors are on the device.

    Args:
        candidates (`Candidates`):
            The rows.
        stats (`list[Tensor]`):
            (k, M) each, statistics before every step and after the last.
        is_closed (`Tensor`):
            (M,) bool, rows that may not be picked again.
        used (`UsedLimits`, *optional*):
            What the picks so far have used, if there are limits.
        open_rows (`list[OpenRows]`, *optional*):
            Which rows could be picked at each step, if there are limits.
    """

    candidates: Candidates
    stats: list[Tensor]
    is_closed: Tensor
    used: UsedLimits | None = None
    open_rows: list[OpenRows] = field(default_factory=list)

    def copy(self) -> RunState:
        """Returns the same state, which further steps of this one do not change."""
        stats, open_rows = list(self.stats), list(self.open_rows)
        return replace(self, stats=stats, open_rows=open_rows, is_closed=self.is_closed.clone())


class Speculator:
    """Takes runs of greedy steps among candidates.

    Args:
        pool (`Pool`):
            The rows.
        objective (`Objective`):
            Is conditioned on the picks of a run.
        limits (`Limits`):
            Which rows may be picked.
        replace (`bool`):
            Whether a row may be picked again.
        picks (`list[int]`):
            The accepted picks, which the search adds to; for errors.
    """

    def __init__(self, pool: Pool, objective: Objective, limits: Limits, replace: bool, picks: list[int]) -> None:
        self.pool, self.objective, self.limits, self.replace, self.picks = pool, objective, limits, replace, picks
        self.waits = pool.device.type != "cpu"  # whether the host waits for a number of a tensor

    def run(
        self,
        candidates: Candidates,
        num_steps: int,
        expected_indices: Sequence[int] = (),
        closed_positions: Sequence[int] = (),
    ) -> Run:
        """Takes greedy steps, up to the first whose pick is not the expected one, if some are expected.

        The objective is left with the picks of the run, the candidates with the statistics before it.

        Raises:
            `ValueError`: If a kernel between candidates, picks and targets is not finite.
            `FloatingPointError`: If a score is NaN although all statistics are finite.
        """
        cache_length, num_before = candidates.cache.length, self.objective.num_observations
        is_closed = torch.zeros(len(candidates.numbers), dtype=torch.bool)
        is_closed[list(closed_positions)] = not self.replace
        used = self.limits.used() if self.limits.is_constrained else None
        state = RunState(candidates, [candidates.stats], upload(is_closed, candidates.rows.device), used)
        run, is_over = Run(), False
        while not is_over and len(run.positions) < num_steps:
            start = len(run.positions)
            count = min(STEPS_BETWEEN_READS, num_steps - start)
            expected_picks = expected_indices[start : start + count]
            numbers = self._take_agreed(state, count, expected_picks)
            num_kept, is_over = _end(numbers, candidates, expected_picks)
            self._add(run, numbers[:num_kept])
        num_kept = len(run.positions)
        self.objective.truncate(num_before + num_kept)
        candidates.cache.length = cache_length
        run.stats = state.stats[: num_kept + 1]
        run.open_rows = OpenRows.join(state.open_rows[:num_kept])
        return run

    def non_finite(self, candidates: Candidates, positions: list[int]) -> ValueError:
        """Raises or returns the error for candidates or picks, at these positions, with a kernel that is not finite."""
        picks = torch.tensor(self.picks + candidates.numbers[positions].tolist(), dtype=torch.int64)
        rows = self.pool.rows(picks.tolist())
        return refuse_non_finite(self.objective.gp, candidates.rows, candidates.numbers, rows, picks)

    def observe(self, candidates: Candidates, position: Tensor) -> None:
        """Adds the candidate at a position, (1,), to the objective as a pick."""
        quality = 1.0 if self.pool.quality is None else self.pool.quality[candidates.indices[position]][0]
        self.objective.observe(candidates.rows[position][0], quality)

    def _take_agreed(self, state: RunState, count: int, expected_picks: Sequence[int]) -> Tensor:
        """Takes some steps and returns their numbers, (count, 4); all processes take the steps of the first one, since
        unequal machines may round differently.
        """
        before, cache_length, num_before = state.copy(), state.candidates.cache.length, self.objective.num_observations
        numbers = own_numbers = self._take(state, count, expected_picks)
        if distributed.world_size() > 1:
            numbers = distributed.broadcast_from_first(own_numbers)
            positions = numbers[:-1, 0].long()
            if not torch.equal(positions, own_numbers[:-1, 0].long()):
                state.stats, state.is_closed = before.stats, before.is_closed
                state.used, state.open_rows = before.used, before.open_rows
                state.candidates.cache.length = cache_length
                self.objective.truncate(num_before)
                self._take(state, count, (), upload(positions[positions >= 0], state.is_closed.device))
        self._check(state, numbers)
        return numbers[:-1]

    def _take(
        self, state: RunState, count: int, expected_picks: Sequence[int], forced_picks: Tensor | None = None
    ) -> Tensor:
        """Takes steps, with the picks at these positions if some are forced.

        Returns:
            `Tensor`: (count + 1, 4) float64 on the CPU: position, score, margin and whether the margin is all that the
                score may be off by; where there was no step, position -1 and score minus infinity. The last row says
                whether all statistics are finite.
        """
        candidates, bests = state.candidates, list[Best]()
        slack, quality = rounding_slack(self.objective, candidates.scales), self.pool.quality_of(candidates.indices)
        for step in range(count if forced_picks is None else len(forced_picks)):
            best = self._best(state, slack, quality)
            if not self.waits and forced_picks is None and float(best.score) == -torch.inf:  # all are closed
                break
            position = best.position if forced_picks is None else forced_picks[step : step + 1]
            bests.append(best)
            self._step(state, position)
            if not self.waits and len(expected_picks) and int(candidates.numbers[position]) != expected_picks[step]:
                break
        return _numbers(bests, state.stats[-1], count)

    def _best(self, state: RunState, slack: Tensor, quality: Quality) -> Best:
        unavailable = state.is_closed
        if state.used is not None:
            open_rows = self.limits.current(state.used)
            state.open_rows.append(open_rows)
            is_open = self.limits.mask(open_rows, state.candidates.indices)
            unavailable = unavailable if is_open is None else unavailable | ~is_open[0]
        return first_best(self.objective, state.stats[-1], slack, quality, unavailable)

    def _step(self, state: RunState, position: Tensor) -> None:
        """Makes a pick at a position, (1,)."""
        objective, candidates = self.objective, state.candidates
        state.is_closed.index_fill_(0, position, not self.replace)
        if state.used is not None:
            state.used = self.limits.add(state.used, candidates.indices[position])
        self.observe(candidates, position)
        observations = objective.observations(objective.num_observations - 1, objective.num_observations)
        projections = objective.project(candidates.rows, candidates.cache.tables(), observations)
        candidates.cache.append(projections)
        state.stats.append(objective.update(state.stats[-1], projections, observations))

    def _check(self, state: RunState, numbers: Tensor) -> None:
        """Raises an error if a statistic or a score is not a number."""
        positions = numbers[:-1, 0].long().tolist()
        if not bool(numbers[-1, 0]):
            # What is not finite once stays so, therefore the last statistics tell whether one was.
            for step, stats in enumerate(state.stats):
                if not is_finite([stats]):
                    raise self.non_finite(state.candidates, positions[:step])
        for position, score in zip(positions, numbers[:-1, 1].tolist(), strict=True):
            check_score(score, position)

    def _add(self, run: Run, numbers: Tensor) -> None:
        """Adds the steps of these numbers, (b, 4), to a run."""
        positions, scores, margins, is_resolved = numbers.T
        run.positions += positions.long().tolist()
        run.scores += scores.tolist()
        run.margins += margins.tolist()
        run.uncertainties += gain_uncertainties(self.objective, scores, margins, is_resolved.bool())


def _numbers(bests: list[Best], stats: Tensor, count: int) -> Tensor:
    """Returns what `Speculator._take` does, from its steps and the statistics after them, in one copy to the CPU."""
    numbers = stats.new_full((count + 1, 4), -torch.inf)
    numbers[:, 0] = -1
    for column, name in enumerate(("position", "score", "margin") if bests else ()):
        numbers[: len(bests), column] = torch.cat([getattr(best, name) for best in bests])
    resolutions = [best.is_resolved for best in bests if best.is_resolved is not None]
    numbers[: len(bests), 3] = torch.stack(resolutions).to(numbers.dtype) if resolutions else 1.0
    numbers[count, 0] = torch.isfinite(stats).all()
    return numbers.cpu()


def _end(numbers: Tensor, candidates: Candidates, expected_picks: Sequence[int]) -> tuple[int, bool]:
    """Returns how many of some steps, (count, 4), a run keeps, and whether it ends there."""
    closed_steps = (numbers[:, 1] == -torch.inf).nonzero()[:, 0]
    num_kept = int(closed_steps[0]) if len(closed_steps) else len(numbers)
    if len(expected_picks):
        indices = candidates.numbers[numbers[:num_kept, 0].long()]
        unexpected_steps = (indices != torch.tensor(expected_picks[:num_kept])).nonzero()[:, 0]
        if len(unexpected_steps):
            return int(unexpected_steps[0]) + 1, True
    return num_kept, num_kept < len(numbers)
