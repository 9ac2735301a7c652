"""One block of the pool in the precision of a pass: applies picks to the block's statistics, verifies a speculated run
against its rows, and rolls back rejected picks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.quality import Quality, select
from itl_hf.objectives.base import Objective, ObservationBlock
from itl_hf.search.candidates import ProjectionCache
from itl_hf.search.suspects import SEGMENT_PICKS, Verification, find_suspects


@dataclass(frozen=True)
class PendingUpdate:
    """Picks that the blocks have yet to apply (`sign` 1) or to roll back (`sign` -1)."""

    observations: ObservationBlock
    sign: float

    def to(self, dtype: torch.dtype) -> PendingUpdate:
        """Returns the same update in another precision."""
        return PendingUpdate(self.observations.to(dtype), self.sign)


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
        slack = verification.error[:, None] * objective.expand_scales(self.scales)  # (k, B)
        after: Tensor | None = None
        may_win = verification.is_open[self.span]  # (B,)
        if objective.additive:
            may_win, after = self._prefilter(verification, run_projections, run_observations, slack)
        positions = may_win.nonzero()[:, 0]
        columns = slack[:, positions], self.stats[:, positions], run_projections[:, :, positions]
        rows_at = positions + self.span.start, select(self.quality, positions)
        suspects, num_steps = find_suspects(verification, *rows_at, *columns, run_observations)
        if after is not None and num_steps == run_projections.shape[1]:
            self.stats = after
            self._update_target_cov(run_projections, run_observations)
        else:
            self._update(objective, run_projections[:, :num_steps], run_observations.part(0, num_steps))
        self.num_applied = verification.num_before + num_steps
        self.projections = projections[:, : num_pending + num_steps] if keep_projections else None
        return suspects, num_steps

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
        """Returns which rows might reach a pick's score, (B,) bool, by one bound for each segment of the run, and all
        statistics after the run.
        """
        objective, num_steps = verification.objective, projections.shape[1]
        prefix_mask = verification.prefix_mask[: -(-num_steps // SEGMENT_PICKS), :num_steps]
        best, after = objective.optimistic_stats(self.stats, projections, observations, prefix_mask)
        bound = objective.upper_bound(best, slack[:, None], verification.num_before, self.quality)  # (c, B)
        lowest = verification.lowest_of_segments[: len(bound), None]
        may_win = (bound >= lowest).any(0) & verification.is_open[self.span]
        return may_win, after[:, -1].clone()  # a view would keep the statistics of all segments
