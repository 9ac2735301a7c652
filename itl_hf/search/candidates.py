"""The few rows among which picks are speculated, with exact statistics in float64, and the cache of rows' projections
on earlier picks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from itl_hf.objectives.base import Objective, ProjectionTables
from itl_hf.search.limits import OpenRows, upload


class ProjectionCache:
    """Projections of a set of rows on earlier picks, with capacity for further picks.

    Args:
        tables (`ProjectionTables`):
            From `Objective.initial_state`: one (r, B) tensor for each posterior, then tensors that never grow.
        num_posteriors (`int`):
            How many of them grow.
        capacity (`int`):
            Number of picks to allocate memory for.
    """

    def __init__(self, tables: ProjectionTables, num_posteriors: int, capacity: int) -> None:
        self._offsets = [len(table) for table in tables[:num_posteriors]]
        self._buffers = [table.new_empty(len(table) + capacity, table.shape[1]) for table in tables[:num_posteriors]]
        for buffer, table in zip(self._buffers, tables[:num_posteriors], strict=True):
            buffer[: len(table)] = table
        self._constants = tables[num_posteriors:]
        self.length = 0  # picks

    def tables(self) -> ProjectionTables:
        """Returns all projections, without a copy."""
        pairs = zip(self._buffers, self._offsets, strict=True)
        return [buffer[: offset + self.length] for buffer, offset in pairs] + self._constants

    def append(self, projections: Tensor) -> None:
        """Adds the projections on further picks, (q, b, B)."""
        for buffer, offset, projection in zip(self._buffers, self._offsets, projections, strict=False):
            buffer[offset + self.length : offset + self.length + len(projection)] = projection
        if self._buffers:
            self.length += projections.shape[1]

    def keep_rows(self, positions: Tensor) -> None:
        """Drops all rows but these."""
        self._buffers = [buffer[:, positions] for buffer in self._buffers]
        self._constants = [table[:, positions] for table in self._constants]

    def join(self, other: ProjectionCache) -> None:
        """Adds the rows of another cache of the same picks."""
        self._buffers = [torch.cat(pair, dim=1) for pair in zip(self._buffers, other._buffers, strict=True)]
        self._constants = [torch.cat(pair, dim=1) for pair in zip(self._constants, other._constants, strict=True)]


@dataclass
class Candidates:
    """Rows with exact statistics, in ascending order of row number.

    Args:
        numbers (`Tensor`):
            (M,) int64 row numbers, on the CPU.
        indices (`Tensor`):
            (M,) the same, on the device of the rows.
        rows (`Tensor`):
            (M, d) float64.
        stats (`Tensor`):
            (k, M) float64, the objective's statistics after the picks so far.
        cache (`ProjectionCache`):
            Projections on these picks.
        scales (`Tensor`):
            (s, M) float64, what errors of the statistics are relative to.
    """

    numbers: Tensor
    indices: Tensor
    rows: Tensor
    stats: Tensor
    cache: ProjectionCache
    scales: Tensor

    @classmethod
    def from_rows(cls, numbers: Tensor, rows: Tensor, objective: Objective, capacity: int) -> Candidates:
        """Computes the rows' statistics after all picks of the objective, (M,) row numbers on the CPU, (M, d)."""
        stats, tables = objective.initial_state(rows)
        scales = objective.error_scales(stats)
        cache = ProjectionCache(tables, len(objective.posteriors), capacity)
        if objective.num_observations:
            observations = objective.observations(0, objective.num_observations)
            projections = objective.project(rows, cache.tables(), observations)
            stats = objective.update(stats, projections, observations)
            cache.append(projections)
        return cls(numbers, upload(numbers, rows.device), rows, stats, cache, scales)

    def keep_rows(self, host_positions: Tensor) -> None:
        """Drops all rows but those at these positions, ascending, on the CPU."""
        self.numbers, positions = self.numbers[host_positions], upload(host_positions, self.rows.device)
        self.indices, self.rows, self.stats = self.indices[positions], self.rows[positions], self.stats[:, positions]
        self.scales = self.scales[:, positions]
        self.cache.keep_rows(positions)

    def join(self, other: Candidates) -> None:
        """Adds other rows."""
        self.numbers = torch.cat([self.numbers, other.numbers])
        self.indices = torch.cat([self.indices, other.indices])
        self.rows, self.stats = torch.cat([self.rows, other.rows]), torch.cat([self.stats, other.stats], dim=1)
        self.scales = torch.cat([self.scales, other.scales], dim=1)
        self.cache.join(other.cache)
        self.keep_rows(self.numbers.argsort())


@dataclass
class Run:
    """Speculated consecutive picks among the candidates.

    Args:
        positions (`list[int]`):
            Positions of the picks among the candidates.
        scores (`list[float]`):
            Exact score of each pick at its step.
        margins (`list[float]`):
            How far below the largest score others counted as equal to it at each step.
        uncertainties (`list[float]`):
            By which share the gain of each pick may lie below that of the best row.
        stats (`list[Tensor]`):
            The candidates' statistics before each step and after the last, (k, M).
        open_rows (`OpenRows`):
            Which rows could be picked at each step.
    """

    positions: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    uncertainties: list[float] = field(default_factory=list)
    stats: list[Tensor] = field(default_factory=list)
    open_rows: OpenRows = field(default_factory=OpenRows)

    def replace_tail(self, positions: list[int], first: int, tail: Run) -> Run:
        """Returns this run's steps before `first` (their positions now `positions`), then those of `tail`. Statistics
        before `first` are not kept.
        """
        stats = tail.stats[:1] * first + tail.stats
        return Run(
            positions[:first] + tail.positions,
            self.scores[:first] + tail.scores,
            self.margins[:first] + tail.margins,
            self.uncertainties[:first] + tail.uncertainties,
            stats,
            OpenRows.join([self.open_rows.part(0, first), tail.open_rows]),
        )
