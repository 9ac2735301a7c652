"""The protocol of an objective: the score of each row, and how scores change when a row is picked.

An objective keeps a few *statistics* per row (for ITL two variances), from which the row's score follows. A pick
changes the statistics through a few *projections* of the row: numbers that depend on the row and that pick alone (for
ITL the row's projections under two posteriors). So a pick costs the same however many came before, and the projections
of many picks are matrix products. The same methods serve the candidates, in float64, and the whole pool, in float32.

`itl_hf.objectives.targeted` has what objectives that follow each target share, `itl_hf.objectives.registry` the
objectives by name.

Sources: Huebotter et al., "Active Few-Shot Fine-Tuning" / "Transductive Active Learning" (2024), eq. 43-44 of the
appendix for the two readings of I(f(A); y_x) that `target_noise_std` chooses between.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.posterior import CholeskyBlock, Posterior
from itl_hf.gp.quality import Quality, answer_noise
from itl_hf.objectives.target_basis import TargetBasisBlock

__all__ = ["Objective", "ObservationBlock", "ProjectionTables"]

#: Projections of a set of rows on all earlier picks: a (j, B) tensor for each posterior, then tensors that never grow.
ProjectionTables = list[Tensor]


@dataclass(frozen=True)
class ObservationBlock:
    """Consecutive picks, in the form in which `Objective.project` and `Objective.update` need them. It stays valid when
    the objective is truncated.

    Args:
        first (`int`):
            Number of picks before these.
        cholesky_blocks (`list[CholeskyBlock]`):
            One for each posterior.
        target_terms (`list[Tensor]`):
            What the objective needs besides, such as the picks' projections of the targets, float64.
        basis_block (`TargetBasisBlock`, *optional*):
            For rows that keep their covariances with the target basis.
    """

    first: int
    cholesky_blocks: list[CholeskyBlock]
    target_terms: list[Tensor] = field(default_factory=list)
    basis_block: TargetBasisBlock | None = None

    def to(self, dtype: torch.dtype) -> ObservationBlock:
        """Returns the same picks in another precision."""
        terms = [tensor.to(dtype) for tensor in self.target_terms]
        basis_block = None if self.basis_block is None else self.basis_block.to(dtype)
        return ObservationBlock(self.first, [block.to(dtype) for block in self.cholesky_blocks], terms, basis_block)

    def part(self, start: int, stop: int) -> ObservationBlock:
        """Returns some of the picks, for `Objective.update` only."""
        terms = [tensor[start:stop] for tensor in self.target_terms]
        basis_block = None if self.basis_block is None else self.basis_block.part(start, stop)
        return ObservationBlock(self.first + start, self.cholesky_blocks, terms, basis_block)

    def __len__(self) -> int:
        return len(self.cholesky_blocks[0].rows)


class Objective:
    """Base class of all objectives: holds the posteriors and computes projections.

    Subclasses define `initial_stats`, `decrements` or `update`, `score`, `upper_bound`, and `project` where projections
    are not those of the posteriors alone.

    Args:
        gp (`GaussianProcess`):
            Kernel, targets and noise.
        posteriors (`list[Posterior]`):
            Posteriors that every pick is added to.
    """

    name = ""
    #: Whether a pick changes each statistic by an amount that depends on nothing but its projections, and scores depend
    #: on the statistics alone. Many steps can then be computed together.
    additive = True
    #: (r, d) rows whose span holds the targets', where the second projections follow from the covariances with them
    #: (`itl_hf.objectives.target_basis`).
    target_basis: Tensor | None = None
    #: The largest prior variance of a row of the pool; nothing is assumed about it while it is infinite.
    largest_variance = float("inf")
    #: The largest prior variance of a row that was observed before that was known, such as one that was trained on.
    observed_variance = 0.0

    def __init__(self, gp: GaussianProcess, posteriors: list[Posterior]) -> None:
        self.gp = gp
        self.posteriors = posteriors
        self.num_observations = 0
        self.num_projections = len(posteriors)  # per row and pick
        self.noise_variance = gp.noise_std**2
        self.uses_projection_cache = posteriors[0].needs_projection_cache

    def initial_state(self, rows: Tensor) -> tuple[Tensor, ProjectionTables]:
        """Computes statistics and projection tables before any pick, in the rows' precision.

        Args:
            rows (`Tensor`):
                (B, d).

        Returns:
            `tuple`: (k, B) statistics, and one (r, B) table for each posterior; no tables where projections do not
                depend on earlier ones.
        """
        tables = [posterior.given_projections(rows) for posterior in self.posteriors]
        return self.initial_stats(rows, tables), tables if self.uses_projection_cache else []

    def initial_stats(self, rows: Tensor, tables: ProjectionTables) -> Tensor:
        """Computes the statistics before any pick, (B, d) and projections on given values (r, B) -> (k, B).

        The first of them is the row's variance.
        """
        raise NotImplementedError

    def initial_state_with_target_cov(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Computes statistics and covariances with `target_basis` before any pick, (B, d) -> (k, B), (r, B)."""
        raise NotImplementedError

    def observations(self, first: int, last: int) -> ObservationBlock:
        """Returns picks `first` to `last` (exclusive)."""
        return ObservationBlock(first, [posterior.cholesky_block(first, last) for posterior in self.posteriors])

    def directions(self, observations: ObservationBlock) -> list[Tensor]:
        """Returns, for finite features, the vectors whose inner products with a row are its projections: (b, d) for
        each of the `num_projections`.
        """
        return [block.rows for block in observations.cholesky_blocks]

    def project(self, rows: Tensor, tables: ProjectionTables, observations: ObservationBlock) -> Tensor:
        """Computes the rows' projections on some picks, (B, d) -> (q, b, B).

        Args:
            rows (`Tensor`):
                (B, d).
            tables (`ProjectionTables`):
                The rows' projections on all picks before these; not used for finite features.
            observations (`ObservationBlock`):
                The picks.
        """
        if not self.uses_projection_cache:
            directions = self.directions(observations)
            if len(directions[0]) == 1:
                return torch.stack([(rows @ direction[0])[None] for direction in directions])
            # One matrix product for all projections: the rows are read once. With the rows on the left it is a third
            # faster for rows that are in no cache.
            return (rows @ torch.cat(directions).T).T.unflatten(0, (len(directions), -1))
        blocks = observations.cholesky_blocks
        cross = self.gp.kernel.cross(blocks[0].rows, rows)  # (b, B)
        items = zip(self.posteriors, tables, blocks, strict=False)
        return torch.stack([posterior.project(rows, table, block, cross) for posterior, table, block in items])

    def decrements(self, projections: Tensor, observations: ObservationBlock) -> Tensor:
        """Computes by how much each pick lowers the statistics, (q, b, B) -> (k, b, B); for `additive` objectives."""
        raise NotImplementedError

    def update(self, stats: Tensor, projections: Tensor, observations: ObservationBlock, sign: float = 1.0) -> Tensor:
        """Returns the statistics after the picks, or before them with `sign` -1, (k, B), (q, b, B) -> (k, B)."""
        decrements = self.decrements(projections, observations)
        total = decrements[:, 0] if decrements.shape[1] == 1 else decrements.sum(1)
        return torch.sub(stats, total, alpha=sign)

    def optimistic_stats(
        self, stats: Tensor, projections: Tensor, observations: ObservationBlock, prefix_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Computes, for each segment of consecutive picks, statistics that score at least as high as the row does at
        any step of the segment. For `additive` objectives.

        This takes few operations. Only rows whose optimistic score is high enough need the statistics of every step.

        Args:
            stats (`Tensor`):
                (k, B), before the first pick.
            projections (`Tensor`):
                (q, b, B).
            observations (`ObservationBlock`):
                The picks of the projections.
            prefix_mask (`Tensor`):
                (c, b), row i is 1 for all picks up to the end of segment i, else 0.

        Returns:
            `tuple`: The optimistic statistics of each segment, and the statistics after it, (k, c, B) each.
        """
        raise NotImplementedError

    def trajectory(self, stats: Tensor, projections: Tensor, observations: ObservationBlock) -> Tensor:
        """Returns the statistics before the first pick and after each, (k, B), (q, b, B) -> (k, b + 1, B)."""
        if self.additive:
            before = stats[:, None]
            return torch.cat([before, before - self.decrements(projections, observations).cumsum(1)], dim=1)
        steps = [stats]
        for step in range(projections.shape[1]):
            steps.append(self.update(steps[-1], projections[:, step : step + 1], observations.part(step, step + 1)))
        return torch.stack(steps, dim=1)

    def answer_noise(self, stats: Tensor, quality: Quality) -> Quality:
        """Returns the noise variance of the answers of rows of this quality, in the statistics' precision."""
        return answer_noise(self.noise_variance, quality, stats.dtype)

    def score(self, stats: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """Computes what is maximised, after so many picks, (k, B) -> (B,). Monotone in the gain.

        `quality` is that of the rows (`itl_hf.gp.quality`).
        """
        raise NotImplementedError

    def upper_bound(self, stats: Tensor, slack: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """Computes an upper bound of the score when each statistic may be off by `slack`, (k, B) each -> (B,); a lower
        bound with -slack.
        """
        raise NotImplementedError

    def resolves(self, stats: Tensor, num_observations: int) -> Tensor | None:
        """Returns whether scores are as exact as `upper_bound` says they are, () bool, from (k, B) float64 statistics
        after so many picks; `None` if they always are.
        """
        return None

    def error_scales(self, stats: Tensor) -> Tensor:
        """Returns the sizes that errors of the statistics are relative to, from the statistics before any pick,
        (k, B) -> (s, B). They are kept for every row, so s is as small as can be; `expand_scales` makes k of them.
        """
        return stats[:1].clone()

    def expand_scales(self, scales: Tensor) -> Tensor:
        """Returns one scale for each statistic, (s, B) -> (k, B), or (1, B) for all of them."""
        return scales

    def gain(self, score: Tensor) -> Tensor:
        """Converts the score to the objective's gain in its own unit."""
        return score

    def observe(self, row: Tensor, quality: Quality = 1.0) -> None:
        """Adds a pick, (d,) float64, of this quality, a number or a () tensor.

        Once `largest_variance` is known, it must be a row of the pool.
        """
        for posterior in self.posteriors:
            posterior.observe(row, quality)
        self.num_observations += 1
        if math.isinf(self.largest_variance):
            self.observed_variance = max(self.observed_variance, float(self.gp.kernel.diagonal(row[None])))

    def truncate(self, num_observations: int) -> None:
        """Drops all picks after the first `num_observations`."""
        for posterior in self.posteriors:
            posterior.truncate(num_observations)
        self.num_observations = num_observations
