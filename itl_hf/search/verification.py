"""Passes over the pool: every row's statistics in the precision of the pass, and the rows that might beat a speculated
pick.

The error of a float32 pass is measured on the candidates, whose exact statistics are known, and multiplied by a safety
factor. A row is a suspect if its score could reach a pick's within that error. Suspects are decided in float64, so that
precision, block size and the number of processes change how often the pool is read and never which rows are picked.

A row that beats a pick even at the low end of its error ends the run there, and the blocks after it verify no further
steps. So blocks differ in how many picks they have applied, until the rejected ones are rolled back.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.objectives.base import Objective, ObservationBlock, ProjectionTables
from itl_hf.objectives.target_basis import TargetBasisBlock, is_cheaper
from itl_hf.search.blocks import PendingUpdate, PoolBlock
from itl_hf.search.candidates import Candidates, ProjectionCache, Run
from itl_hf.search.equal_rows import may_win
from itl_hf.search.exactness import check_noise, fits_float32
from itl_hf.search.finite import refuse_non_finite
from itl_hf.search.limits import Limits, upload
from itl_hf.search.suspects import Verification

MAX_SUSPECTS = 4096
#: Projections of the last pass are kept while they fit in this much memory, for rolling back rejected picks. Otherwise
#: they are computed again with the next pass.
PROJECTION_BYTES = 256 * 2**20
#: Factor on the measured error of a float32 pass: it is that of a thousand rows, and millions may have larger ones.
SAFETY_FACTOR = 8.0
#: A pass is repeated when the error measured after it leaves less than this of the safety factor.
MIN_MARGIN = 2.0


@dataclass(frozen=True)
class Suspects:
    """Rows that might beat a speculated pick.

    Args:
        indices (`Tensor`):
            (V,) int64 row numbers, ascending.
        first_step (`int`):
            The first step that one of them reached; the number of steps if there is none.
        horizon (`int`):
            Number of steps for which these are all suspects.
    """

    indices: Tensor
    first_step: int
    horizon: int


class PoolVerifier:
    """Keeps the statistics of all rows of the pool, and verifies speculated runs against them.

    Args:
        pool (`Pool`):
            The rows.
        objective (`Objective`):
            Shared with the search, which adds and drops picks.
        limits (`Limits`):
            Which rows may be picked, given the picks that the search has recorded.
        capacity (`int`):
            Number of picks that projection caches need memory for.
        max_picks (`int`):
            The longest run that will be verified.
    """

    def __init__(self, pool: Pool, objective: Objective, limits: Limits, capacity: int, max_picks: int) -> None:
        self.pool, self.objective, self.limits = pool, objective, limits
        self.capacity, self.max_picks = capacity, max_picks
        self.is_free = torch.ones(pool.num_rows, dtype=torch.bool, device=pool.device)
        self.num_passes = 0
        self.initialize(torch.float32)

    def initialize(self, dtype: torch.dtype) -> None:
        """Computes all rows' statistics before any pick, in one pass; the picks so far become a pending update."""
        objective = self.objective
        self.dtype = dtype
        self.blocks: list[PoolBlock] = []
        basis = objective.target_basis
        uses_basis = basis is not None and self.pool.is_cached and is_cheaper(basis, self.max_picks)
        self.target_basis = basis if uses_basis else None
        is_unit = self.pool.is_unit or dtype == torch.float64
        fits = [fits_float32(objective.gp.targets, is_unit)]
        for span in self.pool.spans(objective.num_projections * self.max_picks * dtype.itemsize):
            rows = self.pool.span(span, dtype)
            fits.append(fits_float32(rows, is_unit))
            target_cov: Tensor | None = None
            tables: ProjectionTables = []
            if uses_basis:
                stats, target_cov = objective.initial_state_with_target_cov(rows)
            else:
                stats, tables = objective.initial_state(rows)
            cache = ProjectionCache(tables, len(objective.posteriors), self.capacity)
            quality, scales = self.pool.quality_of(span), objective.error_scales(stats)
            self.blocks.append(PoolBlock(span, stats, scales, cache, target_cov, quality=quality))
        objective.largest_variance, has_range = self._range(fits)
        if not has_range:
            if dtype == torch.float32:  # numbers outside of its range, for which float64 has room
                return self.initialize(torch.float64)
            raise self._non_finite()
        check_noise(objective.gp.noise_std, objective.gp.target_noise_std, objective.largest_variance)
        self.error: Tensor | None = None  # (k,), relative to the statistics' scales; measured on the first candidates
        size = sum(block.stats.shape[1] for block in self.blocks) * objective.num_projections * self.max_picks
        total_size = int(distributed.sum_over_processes(torch.tensor(size)))
        self.keeps_projections = total_size * dtype.itemsize <= PROJECTION_BYTES
        count = objective.num_observations
        self.pending = [PendingUpdate(self._observations(0, count), 1.0)] if count else []
        self.num_passes += 1

    def _observations(self, first: int, last: int) -> ObservationBlock:
        """Returns picks `first` to `last` (exclusive), also in the form for rows with covariances."""
        observations = self.objective.observations(first, last)
        if self.target_basis is None:
            return observations
        earlier_directions = self.objective.posteriors[0].cholesky_block(0, first).rows
        directions = self.objective.directions(observations)
        basis_block = TargetBasisBlock.from_directions(directions, earlier_directions, self.target_basis)
        return replace(observations, basis_block=basis_block)

    def apply(self, first: int, last: int) -> None:
        """Applies picks `first` to `last` (exclusive), which no pass has seen, with the next pass."""
        self.pending.append(PendingUpdate(self._observations(first, last), 1.0))

    def rollback(self, first: int, last: int) -> None:
        """Rolls back picks `first` to `last` (exclusive), the rejected ones of the last pass, with the next pass."""
        observations = self.objective.observations(first, last)
        if self.target_basis is not None:  # without weights: the rows' covariances account for these picks already
            directions = self.objective.directions(observations)
            basis_block = TargetBasisBlock(directions[0] @ self.target_basis.T, None)
            observations = replace(observations, basis_block=basis_block)
        self.pending.append(PendingUpdate(observations, -1.0))

    def rollback_now(self, first: int) -> None:
        """Rolls back all picks of the last pass from `first` on, with the projections kept from it."""
        last_pass = self._last_observations
        rejected_picks = last_pass.part(first - last_pass.first, len(last_pass))
        for block in self.blocks:
            block.rollback(self.objective, rejected_picks)

    def close_rows(self, indices: Sequence[int]) -> None:
        """Excludes rows from the further picks."""
        self.is_free.index_fill_(0, upload(torch.tensor(indices, dtype=torch.int64), self.pool.device), False)

    def _open_rows(self) -> Tensor:
        """Returns which rows can be picked next, (N,) bool."""
        is_open = self.limits.open_rows(slice(None))
        return self.is_free if is_open is None else self.is_free & is_open

    def largest_scores(self, count: int) -> tuple[Tensor, int]:
        """Returns the numbers of the open rows with the largest scores, ascending, (M,) on the CPU, and how many rows
        are open; equal on all processes.
        """
        device, open_rows = self.pool.device, self._open_rows()
        scores = [torch.zeros(0, dtype=torch.float64, device=device)]
        indices = [torch.zeros(0, dtype=torch.int64, device=device)]
        for block in self.blocks:
            num_observations = min(self.objective.num_observations, block.num_applied)
            block_scores = self.objective.score(block.stats, num_observations, block.quality).double()
            # What float32 cannot express (a share of 1, for example) may well be the best: exact statistics decide.
            is_closed = ~open_rows[block.span]
            block_scores = block_scores.nan_to_num(nan=torch.inf).masked_fill(is_closed, -torch.inf)
            top = block_scores.topk(min(count, len(block_scores)))
            scores.append(top.values)
            indices.append(top.indices + block.span.start)
        top = torch.cat(scores).topk(min(count, sum(map(len, scores))))
        # Scores, row numbers (below 2^53) and the number of open rows in one copy, for which the host waits.
        own = torch.stack([top.values, torch.cat(indices)[top.indices].double()], dim=1)  # (M, 2)
        own = torch.cat([own, open_rows.sum().double().expand(1, 2)]).cpu()
        score, index = distributed.gather_rows(own[:-1]).T
        # Ascending row numbers first, so that the stable sort leaves ties to the lowest.
        order = index.argsort()
        order = order[score[order].argsort(descending=True, stable=True)][:count]
        return index[order[score[order] > -torch.inf]].long().sort().values, int(own[-1, 0])

    def verify(self, candidates: Candidates, run: Run, num_before: int) -> Suspects | None:
        """Returns the rows that might beat a pick of the run; `None` if float32 leaves too many of them."""
        if self.error is None:
            self.error = self._initial_error(candidates)
        while True:
            own_suspects, own_steps = self._pass(candidates, run, num_before, SAFETY_FACTOR * self.error)
            own_numbers = self._pass_numbers(candidates, run, num_before, [own_steps, len(own_suspects)])
            numbers = distributed.gather_rows(own_numbers)
            if not bool(numbers[:, 2].all()):
                if self.dtype == torch.float32:
                    return None
                raise self._non_finite(candidates.numbers[run.positions])
            new_error = numbers[:, 3:].max(0).values
            assumed_error, self.error = self.error, torch.maximum(self.error, new_error)
            if self.dtype == torch.float64 or bool((SAFETY_FACTOR * assumed_error >= MIN_MARGIN * new_error).all()):
                suspects = distributed.gather_rows(own_suspects) if bool(numbers[:, 1].any()) else own_suspects
                return self._narrow(suspects, int(numbers[:, 0].min()), candidates, run)
            if self.keeps_projections:  # the pass is repeated with the larger error
                self.rollback_now(num_before)
            else:
                self.rollback(num_before, num_before + len(run.positions))

    def _range(self, fits: list[Tensor]) -> tuple[float, bool]:
        """Returns the largest variance of a row, and whether all statistics are finite and all of these flags set, on
        all processes. Collective.
        """
        flags = torch.stack([*fits, *self._finite_flags()]).all()
        variances = [block.stats[0].max().double() for block in self.blocks]
        largest = torch.stack(variances).max() if variances else torch.zeros_like(flags, dtype=torch.float64)
        numbers = distributed.gather_rows(torch.stack([largest, flags.double()])[None].cpu())
        return float(numbers[:, 0].max()), bool(numbers[:, 1].all())

    def _finite_flags(self) -> list[Tensor]:
        """Returns for each block whether all of its statistics are finite, () bool."""
        return [torch.isfinite(block.stats).all() for block in self.blocks]

    def _non_finite(self, picks: Tensor | None = None) -> ValueError:
        """Raises or returns the error for a kernel that is not finite, between rows, targets or picks, (n,)."""
        numbers = torch.zeros(0, dtype=torch.int64) if picks is None else picks
        rows = self.pool.rows(numbers.tolist())
        gp = self.objective.gp
        for block in self.blocks:
            block_numbers = torch.arange(block.span.start, block.span.stop)
            refuse_non_finite(gp, self.pool.own_rows(block.span), block_numbers, rows, numbers)
        return refuse_non_finite(gp, rows, numbers, rows, numbers)

    def _pass(self, candidates: Candidates, run: Run, num_before: int, error: Tensor) -> tuple[Tensor, int]:
        """Verifies the run on this process's blocks.

        Returns:
            `tuple`: (V, 2) suspects: row number, first step reached; and after how many steps the run ends.
        """
        first, num_steps = num_before, len(run.positions)
        if self.pending and self.pending[-1].sign > 0:  # picks yet to be applied go into the same matrix product
            first = self.pending.pop().observations.first
        updates, self.pending = [update.to(self.dtype) for update in self.pending], []
        verification = Verification.from_run(
            self.objective, self.limits, self.is_free, candidates, run, num_before, error, self.dtype
        )
        suspects = [torch.zeros(0, 2, dtype=torch.int64)]
        observations = self._last_observations = self._observations(first, num_before + num_steps).to(self.dtype)
        for block in self.blocks:
            rows = self.pool.span(block.span, self.dtype)
            for update in updates:
                block.apply(self.objective, rows, update)
            block_suspects, end = block.verify(verification, rows, observations, self.keeps_projections)
            suspects.append(block_suspects)
            if end < num_steps:  # for the blocks after this one, too
                num_steps, observations = end, self._observations(first, num_before + end).to(self.dtype)
        self.num_passes += 1
        return torch.cat(suspects), num_steps

    def _narrow(self, suspects: Tensor, num_steps: int, candidates: Candidates, run: Run) -> Suspects | None:
        """Drops suspects after the run's end, those that cannot win, and all beyond a bounded number, (V, 2)."""
        suspects = suspects[suspects[:, 1] < num_steps]  # some blocks verified more steps
        if len(suspects) == 0:
            return Suspects(suspects[:, 0], num_steps, num_steps)
        suspects = suspects[(suspects[:, 1] * self.pool.num_rows + suspects[:, 0]).argsort()]
        if len(suspects) > MAX_SUSPECTS:
            horizon = int(suspects[MAX_SUSPECTS, 1])
            if horizon == 0 and self.dtype == torch.float32:
                return None
            num_steps = max(horizon, 1)
            suspects = suspects[suspects[:, 1] < num_steps]
        suspects = suspects[may_win(suspects[:, 0], self.pool, self.limits, candidates, run)]
        first_step = int(suspects[0, 1]) if len(suspects) else num_steps
        return Suspects(suspects[:, 0].sort().values, first_step, num_steps)

    def _initial_error(self, candidates: Candidates) -> Tensor:
        """Returns the error of the statistics before any pick, at least a few roundings, (k,)."""
        exact_stats, _ = self.objective.initial_state(candidates.rows)
        rounded_stats, _ = self.objective.initial_state(candidates.rows.to(self.dtype))
        error = self._relative_error(rounded_stats.double() - exact_stats, self.objective.error_scales(exact_stats))
        return error.clamp_min(2 * torch.finfo(self.dtype).eps).cpu()

    def _pass_numbers(self, candidates: Candidates, run: Run, num_before: int, counts: list[int]) -> Tensor:
        """Returns `counts`, whether all statistics are finite, and the largest error of the pass on rows with exact
        statistics, (k,), in one row, (1, 3 + k) float64 on the CPU.
        """
        errors = [torch.zeros(len(run.stats[0]), dtype=torch.float64, device=self.pool.device)]
        for block in self.blocks:
            inside = (candidates.numbers >= block.span.start) & (candidates.numbers < block.span.stop)
            host_positions = inside.nonzero()[:, 0]
            if len(host_positions):
                positions = upload(host_positions, self.pool.device)
                columns = candidates.indices[positions] - block.span.start
                exact = run.stats[block.num_applied - num_before][:, positions]
                difference = block.stats[:, columns].double() - exact
                errors.append(self._relative_error(difference, block.scales[:, columns].double()))
        largest_errors = torch.stack(errors).amax(0)
        finite = torch.stack([torch.isfinite(largest_errors).all(), *self._finite_flags()]).all()
        numbers = torch.cat([finite.double()[None], largest_errors]).cpu()  # for these the host waits
        return torch.cat([torch.tensor(counts, dtype=torch.float64), numbers])[None]

    def _relative_error(self, difference: Tensor, scales: Tensor) -> Tensor:
        """Returns the largest difference relative to its scale, (k, B), (s, B) -> (k,)."""
        all_scales = self.objective.expand_scales(scales).clamp_min(torch.finfo(torch.float32).tiny)
        return (difference.abs() / all_scales).amax(1)
