"""One block of the pool in the precision of a pass: told of picks, walked through a speculated run, made to forget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.candidates import Candidates, RowMemory, Run
from itl_hf.gp.greedy import tie
from itl_hf.gp.limits import Limits
from itl_hf.gp.objectives import Objective, Picks

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
        objective (`Objective`): scores and their bounds.
        limits (`Limits`): what was open at each step.
        free (`Tensor`): (N,) bool, rows that may still be picked.
        candidates (`Candidates`): rows that are decided elsewhere.
        run (`Run`): the speculated picks.
        base (`int`): picks before the run.
        error (`Tensor`): (k,), how far each number may be off, relative to its scale.
        rounding (`float`): how far two exact scores may differ by rounding alone.
    """

    objective: Objective
    limits: Limits
    free: Tensor
    candidates: Candidates
    run: Run
    base: int
    error: Tensor
    rounding: float


@dataclass
class Block:
    """Rows of the pool with their numbers after the picks they were told of.

    Args:
        start (`int`): number of the first row.
        state (`Tensor`): (k, B), the objective's numbers.
        scale (`Tensor`): (s, B), what errors in the numbers are relative to.
        memory (`RowMemory`): what rows remember under a kernel.
        told (`int`): picks that the numbers know of.
        columns (`Tensor`, *optional*): (q, b, B), those of the last pass, while there is room for them.
    """

    start: int
    state: Tensor
    scale: Tensor
    memory: RowMemory
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
        self.state = objective.advance(self.state, columns[:, :count], picks.part(0, count), change.sign)
        self.told = picks.first
        if change.sign > 0:
            self.memory.append(columns)
            self.told += count

    def take_back(self, objective: Objective, picks: Picks) -> None:
        """Forgets those of these picks that it was told, by the columns kept of the last pass."""
        extra = max(self.told - picks.first, 0)
        if extra and self.columns is not None:
            self.state = objective.advance(self.state, self.columns[:, -extra:], picks.part(0, extra), -1.0)
        self.told = picks.first

    def _columns(self, objective: Objective, rows: Tensor, picks: Picks) -> Tensor:
        """The picks' columns, (q, b, B); the memory is first cut back to what came before them."""
        if objective.remembers:
            self.memory.length = picks.first
        return objective.columns(rows, self.memory.views(), picks)

    def walk(self, walk: Walk, rows: Tensor, picks: Picks, keep: bool) -> tuple[Tensor, int]:
        """Goes through the picks; finds rows outside the candidates that reach the score of one.

        Args:
            walk (`Walk`): what is asked.
            rows (`Tensor`): (B, d), the block's rows.
            picks (`Picks`): may begin before the run, with those the block has yet to hear of.
            keep (`bool`): whether to keep the columns.

        Returns:
            (V, 2) int64, row number and first step reached; and after how many steps the run ends: all of them, or
            those up to a pick that is surely beaten, since nothing after it can stand.
        """
        columns = self._columns(walk.objective, rows, picks)
        self.memory.append(columns)
        lead = walk.base - picks.first
        self.state = walk.objective.advance(self.state, columns[:, :lead], picks.part(0, lead))
        numbers = torch.arange(self.start, self.span.stop, device=rows.device)
        slack = walk.error[:, None].to(rows.device, rows.dtype) * walk.objective.spread(self.scale)  # (k, B)
        others = walk.free[self.span].to(rows.device) & ~torch.isin(numbers, walk.candidates.numbers)
        ask = _Ask(walk, self.span, numbers, slack, others)
        steps, step, ends = len(picks) - lead, 0, False
        first = torch.full((len(rows),), steps, device=rows.device)
        while step < steps and not ends:
            size = min(STEPS_AT_ONCE if walk.objective.additive else 1, steps - step)
            here = slice(lead + step, lead + step + size)
            path = walk.objective.path(self.state, columns[:, here], picks.part(here.start, here.stop))
            reached = ask.reached(path, step)  # (size, B)
            if bool(reached.any()):
                done, ends = ask.surely(path, step, reached)
                size = done if ends else size
                reached = reached[:size]
                first = first.minimum(torch.where(reached.any(0), step + reached.int().argmax(0), steps))
            self.state = path[:, size]
            step += size
        self.told = walk.base + step
        self.columns = columns[:, : lead + step] if keep else None
        places = (first < step).nonzero()[:, 0]
        return torch.stack([numbers[places], first[places]], dim=1).cpu(), step


@dataclass(frozen=True)
class _Ask:
    """The questions of a walk, put to one block.

    Args:
        walk (`Walk`): what is asked.
        span (`slice`): the block's rows in the pool.
        numbers (`Tensor`): (B,) their row numbers.
        slack (`Tensor`): (k, B), how far their numbers may be off.
        others (`Tensor`): (B,) bool, those that may be picked and are decided nowhere else.
    """

    walk: Walk
    span: slice
    numbers: Tensor
    slack: Tensor
    others: Tensor

    def reached(self, path: Tensor, step: int) -> Tensor:
        """Rows that might be picked instead at each step from `step` on, (k, s + 1, B) -> (s, B) bool."""
        run, size = self.walk.run, path.shape[1] - 1
        score, margin = self._scores(path, step)  # (s, 1)
        bound = self._upper(path[:, :size], self.slack, step)
        # An equal row wins only with a lower number.
        picked = self.walk.candidates.numbers[run.places[step : step + size]].to(path.device)  # (s,)
        reached = (bound >= score + margin) | ((bound >= score - margin) & (self.numbers < picked[:, None]))
        reached &= self.others
        for place, opening in enumerate(run.openings[step : step + size]):
            limited = self.walk.limits.mask(opening, self.span)
            if limited is not None:
                reached[place] &= limited.to(path.device)
        return reached

    def surely(self, path: Tensor, step: int, reached: Tensor) -> tuple[int, bool]:
        """After how many steps the run ends because a pick is beaten even at the low end of the error, and if it does.

        (k, s + 1, B), (s, B) -> number, bool.
        """
        size = path.shape[1] - 1
        score, margin = self._scores(path, step)
        beaten = (self._upper(path[:, :size], -self.slack, step) > score + margin) & reached  # (s, B)
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
