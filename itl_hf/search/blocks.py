"""One block of the pool in the precision of a pass: applies picks to the block's statistics, verifies a speculated run
against its rows, and rolls back rejected picks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.quality import Quality, select
from itl_hf.objectives.base import Objective, ObservationBlock
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.search.candidates import ProjectionCache, Run

#: Picks that share one bound of a row's score. A bound for more picks is less work and lets more rows through.
SEGMENT_PICKS = 8
#: Steps that are computed together: few operations on many numbers, while they still fit in the processor's cache.
STEPS_AT_ONCE = 8


@dataclass(frozen=True)
class PendingUpdate:
    """Picks that the blocks have yet to apply (`sign` 1) or to roll back (`sign` -1)."""

    observations: ObservationBlock
    sign: float

    def to(self, dtype: torch.dtype) -> PendingUpdate:
        """Returns the same update in another precision."""
        return PendingUpdate(self.observations.to(dtype), self.sign)


@dataclass(frozen=True)
class Verification:
    """A speculated run that every block verifies in one pass: which of its rows might beat a pick of the run?

    Args:
        objective (`Objective`):
            Scores and their bounds.
        availability (`AvailabilityTracker`):
            Computes which rows could be picked at each step.
        is_open (`Tensor`):
            (N,) bool, rows that may be picked and are no candidates; candidates were compared in the run itself.
        pick_indices (`Tensor`):
            (b,) int64 row numbers of the run's picks.
        run (`Run`):
            The speculated picks.
        num_before (`int`):
            Number of picks before the run.
        error (`Tensor`):
            (k,), how far each statistic may be off, relative to its scale.
    """

    objective: Objective
    availability: AvailabilityTracker
    is_open: Tensor
    pick_indices: Tensor
    run: Run
    num_before: int
    error: Tensor


@dataclass
class PoolBlock:
    """Consecutive rows of the pool with their statistics.

    Args:
        span (`slice`):
            The rows' place in the pool.
        stats (`Tensor`):
            (k, B), the objective's statistics after `num_applied` picks.
        scales (`Tensor`):
            (s, B), what errors of the statistics are relative to.
        cache (`ProjectionCache`):
            The rows' projections on earlier picks, for kernels without finite features.
        target_cov (`Tensor`, *optional*):
            (r, B), covariances with the objective's target basis.
        num_applied (`int`, *optional*, defaults to 0):
            Number of picks that the statistics account for.
        quality (`Quality`, *optional*, defaults to 1.0):
            (B,), that of the rows.
        projections (`Tensor`, *optional*):
            (q, b, B), those of the last pass, where there is memory for them.
    """

    span: slice
    stats: Tensor
    scales: Tensor
    cache: ProjectionCache
    target_cov: Tensor | None = None
    num_applied: int = 0
    quality: Quality = 1.0
    projections: Tensor | None = None

    def apply(self, objective: Objective, rows: Tensor, update: PendingUpdate) -> None:
        """Applies picks to the statistics, or rolls back those of them that were applied."""
        observations = update.observations
        projections = self._project(objective, rows, observations)
        count = len(observations) if update.sign > 0 else max(self.num_applied - observations.first, 0)
        self._update(objective, projections[:, :count], observations.part(0, count), update.sign)
        self.num_applied = observations.first
        if update.sign > 0:
            self.cache.append(projections)
            self.num_applied += count

    def rollback(self, objective: Objective, observations: ObservationBlock) -> None:
        """Rolls back those of these picks that were applied, with the projections kept from the last pass."""
        count = max(self.num_applied - observations.first, 0)
        if count and self.projections is not None:
            self._update(objective, self.projections[:, -count:], observations.part(0, count), -1.0)
        self.num_applied = observations.first

    def verify(
        self, verification: Verification, rows: Tensor, observations: ObservationBlock, keep_projections: bool
    ) -> tuple[Tensor, int]:
        """Applies the run's picks, and finds rows other than the candidates that might reach the score of one.

        Args:
            verification (`Verification`):
                The run.
            rows (`Tensor`):
                (B, d), the block's rows.
            observations (`ObservationBlock`):
                The run's picks; may begin before the run, with those that the block has yet to apply.
            keep_projections (`bool`):
                Whether to keep the projections for `rollback`.

        Returns:
            `tuple`: (V, 2) int64, row number and first step reached; and after how many steps the run ends: all of
                them, or those up to a pick that is certainly beaten, since no later pick can be right.
        """
        objective = verification.objective
        projections = self._project(objective, rows, observations)
        self.cache.append(projections)
        num_pending = verification.num_before - observations.first
        if num_pending:
            self._update(objective, projections[:, :num_pending], observations.part(0, num_pending))
        run_projections = projections[:, num_pending:]
        run_observations = observations.part(num_pending, len(observations))
        error = verification.error[:, None].to(rows.device, rows.dtype)
        slack = error * objective.expand_scales(self.scales)  # (k, B)
        after: Tensor | None = None
        if objective.additive:
            positions, after = self._prefilter(verification, run_projections, run_observations, slack)
        else:
            positions = verification.is_open[self.span].to(rows.device).nonzero()[:, 0]
        indices = positions + self.span.start
        columns = slack[:, positions], self.stats[:, positions], run_projections[:, :, positions]
        quality = select(self.quality, positions)
        first_steps, num_steps = _first_steps_reached(verification, indices, quality, *columns, run_observations)
        if after is not None and num_steps == run_projections.shape[1]:
            self.stats = after
            self._update_target_cov(run_projections, run_observations)
        else:
            self._update(objective, run_projections[:, :num_steps], run_observations.part(0, num_steps))
        self.num_applied = verification.num_before + num_steps
        self.projections = projections[:, : num_pending + num_steps] if keep_projections else None
        is_suspect = first_steps < num_steps
        return torch.stack([indices[is_suspect], first_steps[is_suspect]], dim=1).cpu(), num_steps

    def _project(self, objective: Objective, rows: Tensor, observations: ObservationBlock) -> Tensor:
        """Computes the projections on some picks, (q, b, B); cuts the cache to the picks before them first."""
        basis_block = observations.basis_block
        if self.target_cov is not None and basis_block is not None and basis_block.weights is not None:
            return basis_block.project(rows, observations.cholesky_blocks[0].rows, self.target_cov)
        if objective.uses_projection_cache:
            self.cache.length = observations.first
        return objective.project(rows, self.cache.tables(), observations)

    def _update(
        self, objective: Objective, projections: Tensor, observations: ObservationBlock, sign: float = 1.0
    ) -> None:
        self.stats = objective.update(self.stats, projections, observations, sign)
        self._update_target_cov(projections, observations, sign)

    def _update_target_cov(self, projections: Tensor, observations: ObservationBlock, sign: float = 1.0) -> None:
        if self.target_cov is not None and observations.basis_block is not None:
            observations.basis_block.update(self.target_cov, projections[0], sign)

    def _prefilter(
        self, verification: Verification, projections: Tensor, observations: ObservationBlock, slack: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Returns the positions of rows that might reach a pick's score, by one bound for each segment of the run, and
        all statistics after the run.
        """
        objective, num_steps = verification.objective, projections.shape[1]
        starts = range(0, num_steps, SEGMENT_PICKS)
        ends = torch.tensor([min(start + SEGMENT_PICKS, num_steps) for start in starts])
        prefix_mask = (torch.arange(num_steps) < ends[:, None]).to(projections)  # (c, b)
        best, after = objective.optimistic_stats(self.stats, projections, observations, prefix_mask)
        bound = objective.upper_bound(best, slack[:, None], verification.num_before, self.quality)  # (c, B)
        run = verification.run
        thresholds = [score - margin for score, margin in zip(run.scores, run.margins, strict=True)]
        lowest = [min(thresholds[start : start + SEGMENT_PICKS]) for start in starts]
        is_open = verification.is_open[self.span].to(bound.device)
        may_win = (bound >= bound.new_tensor(lowest)[:, None]).any(0) & is_open
        return may_win.nonzero()[:, 0], after[:, -1]


def _first_steps_reached(
    verification: Verification,
    indices: Tensor,
    quality: Quality,
    slack: Tensor,
    stats: Tensor,
    projections: Tensor,
    observations: ObservationBlock,
) -> tuple[Tensor, int]:
    """Finds the first step of the run at which each of some rows might be picked instead.

    Args:
        verification (`Verification`):
            The run.
        indices (`Tensor`):
            (V,) row numbers.
        quality (`Quality`):
            (V,), that of the rows.
        slack (`Tensor`):
            (k, V), how far the rows' statistics may be off.
        stats (`Tensor`):
            (k, V), the rows' statistics before the run.
        projections (`Tensor`):
            (q, b, V), the rows' projections on the run's picks.
        observations (`ObservationBlock`):
            The run's picks.

    Returns:
        `tuple`: (V,) first steps, the number of steps where there is none; and after how many steps the run ends.
    """
    num_steps, step, is_beaten = projections.shape[1], 0, False
    first_steps = torch.full_like(indices, num_steps)
    if not len(indices):
        return first_steps, num_steps
    while step < num_steps and not is_beaten:
        size = min(STEPS_AT_ONCE if verification.objective.additive else 1, num_steps - step)
        part = observations.part(step, step + size)
        trajectory = verification.objective.trajectory(stats, projections[:, step : step + size], part)
        may_win, wins = _compare(verification, indices, quality, slack, trajectory, step)  # (size, V) each
        if wins is not None:
            beaten_steps = wins.any(1).nonzero()[:, 0]
            if len(beaten_steps):
                is_beaten, size = True, int(beaten_steps[0]) + 1
                may_win = may_win[:size]
            first_reached = torch.where(may_win.any(0), step + may_win.int().argmax(0), num_steps)
            first_steps = first_steps.minimum(first_reached)
        stats = trajectory[:, size]
        step += size
    return first_steps, step


def _compare(
    verification: Verification, indices: Tensor, quality: Quality, slack: Tensor, trajectory: Tensor, step: int
) -> tuple[Tensor, Tensor | None]:
    """Compares rows with the run's picks at the steps from `step` on.

    Args:
        verification (`Verification`):
            The run.
        indices (`Tensor`):
            (V,) row numbers.
        quality (`Quality`):
            (V,), that of the rows.
        slack (`Tensor`):
            (k, V), how far the rows' statistics may be off.
        trajectory (`Tensor`):
            (k, s + 1, V), the rows' statistics before each step and after the last.
        step (`int`):
            The first of the s steps.

    Returns:
        `tuple`: Which rows might be picked instead at each step, (s, V) bool; and which of them beat the pick even at
            the low end of their error, `None` if there are none of the former.
    """
    objective, size = verification.objective, trajectory.shape[1] - 1
    num_before = verification.num_before + step
    scores = verification.run.scores[step : step + size]
    score = trajectory.new_tensor(scores)[:, None]  # (s, 1)
    margin = trajectory.new_tensor(verification.run.margins[step : step + size])[:, None]
    stats, slack = (trajectory[:, :-1], slack[:, None]) if objective.additive else (trajectory[:, 0], slack)
    bound = objective.upper_bound(stats, slack, num_before, quality).reshape(size, -1)  # (s, V)
    # An equal row wins only with a lower number.
    pick_indices = verification.pick_indices[step : step + size].to(trajectory.device)  # (s,)
    may_win = (bound > score) | ((bound >= score - margin) & (indices < pick_indices[:, None]))
    for offset, availability in enumerate(verification.run.availability[step : step + size]):
        is_open = verification.availability.mask(availability, indices.cpu())
        if is_open is not None:
            may_win[offset] &= is_open.to(trajectory.device)
    if not bool(may_win.any()):
        return may_win, None
    lower_bound = objective.upper_bound(stats, -slack, num_before, quality).reshape(size, -1)
    return may_win, (lower_bound > score + margin) & may_win
