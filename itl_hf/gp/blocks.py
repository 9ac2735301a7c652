"""One block of the pool in the precision of a pass: told of picks, walked through a speculated run, made to forget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.candidates import Candidates, RowMemory, Run
from itl_hf.gp.greedy import tie
from itl_hf.gp.limits import Limits
from itl_hf.gp.objectives import Objective, Picks


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
        slack = walk.error[:, None].to(rows.device, rows.dtype) * walk.objective.spread(self.scale)  # (k, B)
        numbers = torch.arange(self.start, self.span.stop, device=rows.device)
        others = walk.free[self.span].to(rows.device) & ~torch.isin(numbers, walk.candidates.numbers)
        steps = len(picks) - lead
        first, step, ends = torch.full((len(rows),), steps, device=rows.device), 0, False
        while step < steps and not ends:
            reached = self._reached(walk, step, slack, numbers) & others
            if bool(reached.any()):
                first[reached & (first > step)] = step
                ends = self._surely(walk, step, slack, reached)
            here = slice(lead + step, lead + step + 1)
            self.state = walk.objective.advance(self.state, columns[:, here], picks.part(here.start, here.stop))
            step += 1
        self.told = walk.base + step
        self.columns = columns[:, : lead + step] if keep else None
        places = (first < step).nonzero()[:, 0]
        return torch.stack([numbers[places], first[places]], dim=1).cpu(), step

    def _reached(self, walk: Walk, step: int, slack: Tensor, numbers: Tensor) -> Tensor:
        """Rows that might be picked instead at this step, (B,) bool."""
        score = walk.run.scores[step]
        bound, margin = walk.objective.upper(self.state, slack, walk.base + step), tie(score, walk.rounding)
        # An equal row wins only with a lower number.
        earlier = numbers < walk.candidates.numbers[walk.run.places[step]]
        reached = (bound >= score + margin) | ((bound >= score - margin) & earlier)
        limited = walk.limits.mask(walk.run.openings[step], self.span)
        return reached if limited is None else reached & limited.to(reached.device)

    def _surely(self, walk: Walk, step: int, slack: Tensor, reached: Tensor) -> bool:
        """Whether one of the rows beats the pick of this step even at the low end of its error."""
        score = walk.run.scores[step]
        lower = walk.objective.upper(self.state[:, reached], -slack[:, reached], walk.base + step)
        return bool((lower > score + tie(score, walk.rounding)).any())
