"""What makes one row a better pick than another: scores, and how they change when a row is picked.

An objective keeps a few *numbers* a row (for ITL two variances). A pick moves them through a few *columns*: values of a
row that depend on the pick alone (for ITL the row's projections under two posteriors), so that a pick costs the same
whatever was picked before, and many picks at once are matrix products. The same methods serve exact candidates in
float64 and the whole pool in float32.

Here: the protocol, ITL and the undirected objective; `itl_hf.objectives.vtl` has those that follow each target.

Sources: Huebotter et al., "Active Few-Shot Fine-Tuning" / "Transductive Active Learning" (2024), eq. 43-44 of the
appendix for the readings of I(f(A); y_x) that `target_noise_std` chooses between.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.posterior import CholeskyBlock, Posterior
from itl_hf.objectives.target_basis import Anchored

__all__ = ["Memory", "Objective", "Picks"]

Memory = list[Tensor]


@dataclass(frozen=True)
class Picks:
    """A run of consecutive picks, for `columns` and `advance`; stays valid when the objective forgets them.

    Args:
        first (`int`):
            How many picks came before.
        frames (`list[CholeskyBlock]`):
            One for each posterior.
        extra (`list[Tensor]`):
            What the objective needs besides, float64.
        anchored (`Anchored`, *optional*):
            For rows that carry covariances with anchors.
    """

    first: int
    frames: list[CholeskyBlock]
    extra: list[Tensor] = field(default_factory=list)
    anchored: Anchored | None = None

    def to(self, dtype: torch.dtype) -> Picks:
        """The same in another precision."""
        extra = [tensor.to(dtype) for tensor in self.extra]
        anchored = None if self.anchored is None else self.anchored.to(dtype)
        return Picks(self.first, [frame.to(dtype) for frame in self.frames], extra, anchored)

    def part(self, start: int, stop: int) -> Picks:
        """Some of the picks, as `advance` needs them."""
        anchored = None if self.anchored is None else self.anchored.part(start, stop)
        return Picks(self.first + start, self.frames, [tensor[start:stop] for tensor in self.extra], anchored)

    def __len__(self) -> int:
        return len(self.frames[0].rows)


class Objective:
    """Shared by all objectives: posteriors, and what rows remember under kernels without finite features.

    Subclasses say `start`, `columns` beyond the posteriors' projections, `advance`, `score` and `upper`.
    """

    name = ""
    #: Whether a pick changes each number by an amount that depends on nothing but its columns, and scores depend on the
    #: numbers alone: many steps can then be looked at together.
    additive = True

    def __init__(self, gp: GaussianProcess, posteriors: list[Posterior]) -> None:
        self.width = len(posteriors)  # columns of a pick
        self.gp = gp
        self.posteriors = posteriors
        self.noise_variance = gp.noise_std**2
        self.remembers = posteriors[0].needs_memory

    @property
    def count(self) -> int:
        """Picks so far."""
        return self.posteriors[0].count

    def begin(self, rows: Tensor) -> tuple[Tensor, Memory]:
        """Numbers and memory of rows before any pick, (B, d) -> (k, B) and a list of (r, B), in the rows' precision."""
        memory = [posterior.begin(rows) for posterior in self.posteriors]
        return self.start(rows, memory), memory if self.remembers else []

    @property
    def anchors(self) -> Tensor | None:
        """(r, d) rows whose span holds the targets', if second columns follow from covariances with them
        (`itl_hf.objectives.target_basis`).
        """
        return None

    def begin_anchored(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers and covariances with the anchors before any pick, (B, d) -> (k, B), (r, B)."""
        raise NotImplementedError

    def start(self, rows: Tensor, given: Memory) -> Tensor:
        """The numbers kept for each row before any pick, (B, d) and projections on given values (r, B) -> (k, B).

        The first of them is the row's variance.
        """
        raise NotImplementedError

    def picks(self, first: int, last: int) -> Picks:
        """Picks `first` to `last` (exclusive)."""
        return Picks(first, [posterior.frame(first, last) for posterior in self.posteriors])

    def directions(self, picks: Picks) -> list[Tensor]:
        """For finite features: what rows are multiplied with, (b, d) for each column of a pick."""
        return [frame.rows for frame in picks.frames]

    def columns(self, rows: Tensor, memory: Memory, picks: Picks) -> Tensor:
        """What the picks say to each row, (B, d) -> (q, b, B). Memory must hold all picks before these."""
        if not self.remembers:
            directions = self.directions(picks)
            if len(directions[0]) == 1:
                return torch.stack([(rows @ direction[0])[None] for direction in directions])
            # One matrix product for all columns: the rows are read once. In this order it takes rows that are in no
            # cache a third faster than in the other.
            return (rows @ torch.cat(directions).T).T.unflatten(0, (len(directions), -1))
        cross = self.gp.kernel.cross(picks.frames[0].rows, rows)  # (b, B)
        pairs = enumerate(self.posteriors)
        return torch.stack([each.project(rows, memory[place], picks.frames[place], cross) for place, each in pairs])

    def remember(self, memory: Memory, columns: Tensor) -> Memory:
        """Memory with the columns of further picks."""
        if not self.remembers:
            return memory
        count = len(self.posteriors)
        return [torch.cat([old, columns[place]]) for place, old in enumerate(memory[:count])] + memory[count:]

    def falls(self, columns: Tensor, picks: Picks) -> Tensor:
        """By how much each pick lowers the numbers, (q, b, B) -> (k, b, B); for objectives that are `additive`."""
        raise NotImplementedError

    def advance(self, numbers: Tensor, columns: Tensor, picks: Picks, sign: float = 1.0) -> Tensor:
        """Numbers after the picks (or before them, with `sign` -1), (k, B), (q, b, B) -> (k, B)."""
        falls = self.falls(columns, picks)
        return torch.sub(numbers, falls[:, 0] if falls.shape[1] == 1 else falls.sum(1), alpha=sign)

    def best_of_stretches(self, numbers: Tensor, columns: Tensor, picks: Picks, sums: Tensor) -> tuple[Tensor, Tensor]:
        """Numbers that score at least as high as a row's do anywhere in a stretch of picks, and those after each.

        For objectives that are `additive`: few operations tell which rows need to be looked at step by step.

        Args:
            numbers (`Tensor`):
                (k, B), before the first pick.
            columns (`Tensor`):
                (q, b, B).
            picks (`Picks`):
                Of the columns.
            sums (`Tensor`):
                (c, b), row i is 1 for all picks up to the end of stretch i, else 0.

        Returns:
            (k, c, B) each.
        """
        raise NotImplementedError

    def path(self, numbers: Tensor, columns: Tensor, picks: Picks) -> Tensor:
        """Numbers before the first pick, and after each, (k, B), (q, b, B) -> (k, b + 1, B)."""
        if self.additive:
            before = numbers[:, None]
            return torch.cat([before, before - self.falls(columns, picks).cumsum(1)], dim=1)
        states = [numbers]
        for place in range(columns.shape[1]):
            states.append(self.advance(states[-1], columns[:, place : place + 1], picks.part(place, place + 1)))
        return torch.stack(states, dim=1)

    def score(self, numbers: Tensor, count: int) -> Tensor:
        """What to maximise, after `count` picks, (k, B) -> (B,). Monotone in the gain."""
        raise NotImplementedError

    def upper(self, numbers: Tensor, slack: Tensor, count: int) -> Tensor:
        """Upper bound of the score when each number may be off by `slack`, (k, B) each; with -slack, a lower bound."""
        raise NotImplementedError

    def scales(self, numbers: Tensor) -> Tensor:
        """What errors are relative to, from the numbers before any pick, (k, B) -> (s, B), s as small as can be."""
        return numbers[:1].clone()

    def spread(self, scales: Tensor) -> Tensor:
        """The same for each number, (s, B) -> (k, B) or (1, B)."""
        return scales

    def gain(self, score: Tensor) -> Tensor:
        """The objective's gain in its own unit, from the score."""
        return score

    def observe(self, row: Tensor) -> None:
        """Picks a row, (d,) float64."""
        for posterior in self.posteriors:
            posterior.observe(row)

    def forget(self, count: int) -> None:
        """Takes back all picks after the first `count`."""
        for posterior in self.posteriors:
            posterior.forget(count)

    def rounding(self, largest: float) -> float:
        """How far two float64 scores may differ by rounding alone, when the largest k(x, x) is `largest`."""
        return 4e-15 * largest / self.noise_variance
