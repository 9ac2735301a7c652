"""One block of the pool in the precision of a pass: told of picks, walked through a speculated run, made to forget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.objectives.base import Objective, Picks
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.search.candidates import ProjectionCache, Run
from itl_hf.search.greedy import tie

#: Picks over which one bound of a row's score is taken: a bound for more is less work and lets more rows through.
STRETCH = 8
#: Steps that are looked at together: few operations on much, while it still fits in the cache.
STEPS_AT_ONCE = 8


@dataclass(frozen=True)
class Change:
    """Picks that the blocks have yet to hear of (sign 1), or to forget (sign -1)."""

    picks: Picks
    sign: float

    def to(self, dtype: torch.dtype) -> Change:
        """The same in another precision."""
        return Change(self.picks.to(dtype), self.sign)


@dataclass(frozen=True)
class Walk:
    """What every block is asked in one pass: which of its rows might beat a pick of the run.

    Args:
        objective (`Objective`):
            Scores and their bounds.
        limits (`AvailabilityTracker`):
            What was open at each step.
        others (`Tensor`):
            (N,) bool, rows that may be picked and are no candidates: those are decided elsewhere.
        picked (`Tensor`):
            (b,) int64 row numbers of the run's picks.
        run (`Run`):
            The speculated picks.
        base (`int`):
            Picks before the run.
        error (`Tensor`):
            (k,), how far each number may be off, relative to its scale.
        rounding (`float`):
            How far two exact scores may differ by rounding alone.
    """

    objective: Objective
    limits: AvailabilityTracker
    others: Tensor
    picked: Tensor
    run: Run
    base: int
    error: Tensor
    rounding: float


@dataclass
class Block:
    """Rows of the pool with their numbers after the picks they were told of.

    Args:
        start (`int`):
            Number of the first row.
        state (`Tensor`):
            (k, B), the objective's numbers.
        scale (`Tensor`):
            (s, B), what errors in the numbers are relative to.
        memory (`ProjectionCache`):
            What rows remember under a kernel.
        carried (`Tensor`, *optional*):
            (r, B), covariances with the objective's anchors.
        told (`int`):
            Picks that the numbers know of.
        columns (`Tensor`, *optional*):
            (q, b, B), those of the last pass, while there is room for them.
    """

    start: int
    state: Tensor
    scale: Tensor
    memory: ProjectionCache
    carried: Tensor | None = None
    told: int = 0
    columns: Tensor | None = None

    @property
    def span(self) -> slice:
        """Its rows in the pool."""
        return slice(self.start, self.start + self.state.shape[1])

    def take(self, objective: Objective, rows: Tensor, change: Change) -> None:
        """Hears of picks, or forgets those of them that it was told."""
        columns, picks = self._columns(objective, rows, change.picks), change.picks
        count = len(picks) if change.sign > 0 else max(self.told - picks.first, 0)
        self._advance(objective, columns[:, :count], picks.part(0, count), change.sign)
        self.told = picks.first
        if change.sign > 0:
            self.memory.append(columns)
            self.told += count

    def take_back(self, objective: Objective, picks: Picks) -> None:
        """Forgets those of these picks that it was told, by the columns kept of the last pass."""
        extra = max(self.told - picks.first, 0)
        if extra and self.columns is not None:
            self._advance(objective, self.columns[:, -extra:], picks.part(0, extra), -1.0)
        self.told = picks.first

    def _advance(self, objective: Objective, columns: Tensor, picks: Picks, sign: float = 1.0) -> None:
        self.state = objective.advance(self.state, columns, picks, sign)
        self._tell_carried(columns, picks, sign)

    def _tell_carried(self, columns: Tensor, picks: Picks, sign: float = 1.0) -> None:
        if self.carried is not None and picks.anchored is not None:
            picks.anchored.tell(self.carried, columns[0], sign)

    def _columns(self, objective: Objective, rows: Tensor, picks: Picks) -> Tensor:
        """The picks' columns, (q, b, B); the memory is first cut back to what came before them."""
        if self.carried is not None and picks.anchored is not None and picks.anchored.weights is not None:
            return picks.anchored.columns(rows, picks.frames[0].rows, self.carried)
        if objective.remembers:
            self.memory.length = picks.first
        return objective.columns(rows, self.memory.views(), picks)

    def walk(self, walk: Walk, rows: Tensor, picks: Picks, keep: bool) -> tuple[Tensor, int]:
        """Goes through the picks; finds rows outside the candidates that reach the score of one.

        Args:
            walk (`Walk`):
                What is asked.
            rows (`Tensor`):
                (B, d), the block's rows.
            picks (`Picks`):
                May begin before the run, with those the block has yet to hear of.
            keep (`bool`):
                Whether to keep the columns.

        Returns:
            (V, 2) int64, row number and first step reached; and after how many steps the run ends: all of them, or
            those up to a pick that is surely beaten, since nothing after it can stand.
        """
        objective = walk.objective
        columns = self._columns(objective, rows, picks)
        self.memory.append(columns)
        lead = walk.base - picks.first
        if lead:
            self._advance(objective, columns[:, :lead], picks.part(0, lead))
        here, asked = columns[:, lead:], picks.part(lead, len(picks))
        slack = walk.error[:, None].to(rows.device, rows.dtype) * objective.spread(self.scale)  # (k, B)
        if objective.additive:
            places, after = self._near(walk, here, asked, slack)
        else:
            places, after = walk.others[self.span].to(rows.device).nonzero()[:, 0], None
        numbers = places + self.start
        ask = _Ask(walk, numbers, slack[:, places], self.state[:, places], here[:, :, places], asked)
        first, step = ask.first_reached()
        if after is not None and step == here.shape[1]:
            self.state = after
        else:
            self.state = objective.advance(self.state, here[:, :step], asked.part(0, step))
        self._tell_carried(here[:, :step], asked.part(0, step))
        self.told = walk.base + step
        self.columns = columns[:, : lead + step] if keep else None
        found = first < step
        return torch.stack([numbers[found], first[found]], dim=1).cpu(), step

    def _near(self, walk: Walk, columns: Tensor, picks: Picks, slack: Tensor) -> tuple[Tensor, Tensor]:
        """Places of rows that might reach a pick's score, by a bound for stretches of picks; and all numbers after
        them.
        """
        steps = columns.shape[1]
        starts = range(0, steps, STRETCH)
        ends = torch.tensor([min(start + STRETCH, steps) for start in starts])
        sums = (torch.arange(steps) < ends[:, None]).to(columns)  # (c, b)
        best, after = walk.objective.best_of_stretches(self.state, columns, picks, sums)
        bound = walk.objective.upper(best, slack[:, None], walk.base)  # (c, B)
        needed = [score - tie(score, walk.rounding) for score in walk.run.scores]
        least = [min(needed[start : start + STRETCH]) for start in starts]
        reached = (bound >= bound.new_tensor(least)[:, None]).any(0) & walk.others[self.span].to(bound.device)
        return reached.nonzero()[:, 0], after[:, -1]


@dataclass(frozen=True)
class _Ask:
    """The questions of a walk, put to some rows of one block.

    Args:
        walk (`Walk`):
            What is asked.
        numbers (`Tensor`):
            (V,) their row numbers.
        slack (`Tensor`):
            (k, V), how far their numbers may be off.
        state (`Tensor`):
            (k, V), their numbers before the run.
        columns (`Tensor`):
            (q, b, V), what its picks say to them.
        picks (`Picks`):
            The run's.
    """

    walk: Walk
    numbers: Tensor
    slack: Tensor
    state: Tensor
    columns: Tensor
    picks: Picks

    def first_reached(self) -> tuple[Tensor, int]:
        """The first step at which each row might be picked instead, (V,); and after how many the run ends."""
        steps, step, ends = self.columns.shape[1], 0, False
        first, state = torch.full_like(self.numbers, steps), self.state
        if not len(first):
            return first, steps
        while step < steps and not ends:
            size = min(STEPS_AT_ONCE if self.walk.objective.additive else 1, steps - step)
            here = slice(step, step + size)
            path = self.walk.objective.path(state, self.columns[:, here], self.picks.part(here.start, here.stop))
            reached = self.reached(path, step)  # (size, V)
            if bool(reached.any()):
                done, ends = self.surely(path, step, reached)
                size = done if ends else size
                reached = reached[:size]
                first = first.minimum(torch.where(reached.any(0), step + reached.int().argmax(0), steps))
            state = path[:, size]
            step += size
        return first, step

    def reached(self, path: Tensor, step: int) -> Tensor:
        """Rows that might be picked instead at each step from `step` on, (k, s + 1, V) -> (s, V) bool."""
        run, size = self.walk.run, path.shape[1] - 1
        score, margin = self._scores(path, step)  # (s, 1)
        bound = self._upper(path[:, :size], self.slack, step)
        # An equal row wins only with a lower number.
        picked = self.walk.picked[step : step + size].to(path.device)  # (s,)
        reached = (bound >= score + margin) | ((bound >= score - margin) & (self.numbers < picked[:, None]))
        for place, opening in enumerate(run.openings[step : step + size]):
            limited = self.walk.limits.mask(opening, self.numbers.cpu())
            if limited is not None:
                reached[place] &= limited.to(path.device)
        return reached

    def surely(self, path: Tensor, step: int, reached: Tensor) -> tuple[int, bool]:
        """After how many steps the run ends because a pick is beaten even at the low end of the error, and if it does.

        (k, s + 1, V), (s, V) -> number, bool.
        """
        size = path.shape[1] - 1
        score, margin = self._scores(path, step)
        beaten = (self._upper(path[:, :size], -self.slack, step) > score + margin) & reached  # (s, V)
        steps = beaten.any(1).nonzero()[:, 0]
        return (int(steps[0]) + 1, True) if len(steps) else (size, False)

    def _upper(self, path: Tensor, slack: Tensor, step: int) -> Tensor:
        objective, count = self.walk.objective, self.walk.base + step
        if objective.additive:
            return objective.upper(path, slack[:, None], count)
        return objective.upper(path[:, 0], slack, count)[None]

    def _scores(self, path: Tensor, step: int) -> tuple[Tensor, Tensor]:
        scores = self.walk.run.scores[step : step + path.shape[1] - 1]
        margins = [tie(score, self.walk.rounding) for score in scores]
        return path.new_tensor(scores)[:, None], path.new_tensor(margins)[:, None]
