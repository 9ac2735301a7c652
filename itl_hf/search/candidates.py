"""The few rows among which picks are speculated: exact numbers in float64, and what rows remember under a kernel."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from itl_hf.objectives.base import Memory, Objective
from itl_hf.search.availability import Availability


class ProjectionCache:
    """Projections of a set of rows, with room for further picks.

    Args:
        start (`list[Tensor]`):
            As `Objective.begin` returns it: one (r, B) tensor for each posterior, then what never grows.
        posteriors (`int`):
            How many of them grow.
        room (`int`):
            Picks there will be room for.
    """

    def __init__(self, start: Memory, posteriors: int, room: int) -> None:
        self._given = [len(part) for part in start[:posteriors]]
        self._growing = [part.new_empty(len(part) + room, part.shape[1]) for part in start[:posteriors]]
        for table, part in zip(self._growing, start[:posteriors], strict=True):
            table[: len(part)] = part
        self._fixed = start[posteriors:]
        self.length = 0

    def views(self) -> Memory:
        """All that is remembered, without a copy."""
        grown = [table[: given + self.length] for table, given in zip(self._growing, self._given, strict=True)]
        return grown + self._fixed

    def append(self, columns: Tensor) -> None:
        """Adds the columns of further picks, (q, b, B)."""
        for table, given, column in zip(self._growing, self._given, columns, strict=False):
            table[given + self.length : given + self.length + len(column)] = column
        if self._growing:
            self.length += columns.shape[1]

    def keep(self, places: Tensor) -> None:
        """Keeps these rows only."""
        self._growing = [table[:, places] for table in self._growing]
        self._fixed = [part[:, places] for part in self._fixed]

    def join(self, other: ProjectionCache) -> None:
        """Takes in the rows of another memory of the same picks."""
        self._growing = [torch.cat(pair, dim=1) for pair in zip(self._growing, other._growing, strict=True)]
        self._fixed = [torch.cat(pair, dim=1) for pair in zip(self._fixed, other._fixed, strict=True)]


@dataclass
class Candidates:
    """Rows with their exact numbers, in ascending order of row number.

    Args:
        numbers (`Tensor`):
            (M,) int64 row numbers.
        rows (`Tensor`):
            (M, d) float64.
        state (`Tensor`):
            (k, M) float64, the objective's numbers after the picks committed so far.
        memory (`ProjectionCache`):
            Projections on those picks.
    """

    numbers: Tensor
    rows: Tensor
    state: Tensor
    memory: ProjectionCache

    @classmethod
    def of(cls, numbers: Tensor, rows: Tensor, objective: Objective, room: int) -> Candidates:
        """Rows brought up to date with all picks of the objective."""
        state, start = objective.begin(rows)
        memory = ProjectionCache(start, len(objective.posteriors), room)
        if objective.count:
            picks = objective.picks(0, objective.count)
            columns = objective.columns(rows, memory.views(), picks)
            state = objective.advance(state, columns, picks)
            memory.append(columns)
        return cls(numbers, rows, state, memory)

    def __len__(self) -> int:
        return len(self.numbers)

    def keep(self, places: Tensor) -> None:
        """Keeps the rows at these places only, ascending."""
        self.numbers, self.rows, self.state = self.numbers[places], self.rows[places], self.state[:, places]
        self.memory.keep(places)

    def join(self, other: Candidates) -> None:
        """Takes in other rows."""
        self.numbers = torch.cat([self.numbers, other.numbers])
        self.rows, self.state = torch.cat([self.rows, other.rows]), torch.cat([self.state, other.state], dim=1)
        self.memory.join(other.memory)
        self.keep(self.numbers.argsort())


@dataclass
class Run:
    """A speculated run of picks among candidates.

    Args:
        places (`list[int]`):
            Places of the picks among the candidates.
        scores (`list[float]`):
            Score of each at its step, exact.
        states (`list[Tensor]`):
            The candidates' numbers before each step and after the last, (k, M).
        openings (`list[Availability]`):
            What could be picked at each step.
    """

    places: list[int] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    states: list[Tensor] = field(default_factory=list)
    openings: list[Availability] = field(default_factory=list)

    def add(self, place: int, score: float, state: Tensor, opening: Availability) -> None:
        """A step: the pick, its score, the candidates' numbers before it, and what was open."""
        self.places.append(place)
        self.scores.append(score)
        self.states.append(state)
        self.openings.append(opening)

    def resume(self, places: list[int], first: int, rest: Run) -> Run:
        """This run's steps before `first` (their places now `places`), then `rest`; earlier states are not kept."""
        states = rest.states[:1] * first + rest.states
        openings = self.openings[:first] + rest.openings
        return Run(places[:first] + rest.places, self.scores[:first] + rest.scores, states, openings)
