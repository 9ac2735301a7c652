"""Chance: rows at random, and rows at random among those of the right length."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.search.greedy import GreedyPicks
from itl_hf.selection.protocol import (
    Acquisition,
    Noise,
    Reads,
    SelectionRequest,
    again,
    check_whole,
    in_order,
    is_open,
    measured,
    open_among,
    picked,
)
from itl_hf.selection.registry import resolve_acquisition


@dataclass(frozen=True)
class Random:
    """Rows drawn uniformly without replacement: what most people do, and the floor that every method must beat.

    Args:
        seed (`int`, *optional*, defaults to 0):
            Seed of the draw.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            See `ITL`; gains are measured with it.
        target_noise_std (`float`, *optional*):
            See `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> len(select_rows([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[1.0, 0.0]], 2, acquisition="random", seed=3))
        2
    """

    seed: int = 0
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "random"

    def __post_init__(self) -> None:
        check_whole("seed", self.seed, 0)

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """A seeded permutation's first rows; its own generator, so nothing else is disturbed."""
        generator = torch.Generator().manual_seed(self.seed)
        if request.replace:
            return measured(self._with_replacement(pool.num_rows, request, generator), pool, gp, request)
        # All rows are drawn, and those known before left out: a selection continued is one longer selection.
        drawn = torch.randperm(pool.num_rows, generator=generator)
        return picked(drawn[request.open_rows(pool.num_rows)[drawn]], pool, gp, request)

    def _with_replacement(self, num_rows: int, request: SelectionRequest, generator: torch.Generator) -> list[int]:
        availability, picks = request.availability, list[int]()
        while len(picks) < availability.num_examples:
            rows = request.open_rows(num_rows).nonzero()[:, 0]
            rows = rows[open_among(rows, availability)]
            if len(rows) == 0:
                break
            drawn = torch.randint(len(rows), (availability.num_examples - len(picks),), generator=generator)
            picks = in_order(rows[drawn], availability, picks)
        return picks


@dataclass(frozen=True)
class LengthMatchedRandom:
    """Random rows as long as those that a method picks: the control for "it only finds longer texts".

    Long answers alone improve fine-tuned models (Zhao et al., "Long Is More for Alignment", ICML 2024), so a method
    that happens to prefer them must beat rows that are equally long and otherwise chance. Stratified matching: the
    pool's lengths are cut at their quantiles into `strata` of about equal size; pick i is drawn uniformly, without
    replacement, from the stratum of the length of reference row i (of the nearest stratum that has an open row, the
    shorter of two). So the first n picks match the first n references, for every n. Where there are fewer references
    than picks they are gone through again.

    A row's length is what `lengths` says; else its cost, where rows have costs; else its words, prompt and completion.

    Args:
        like (`str`, `Acquisition` or `Sequence[int]`, *optional*, defaults to `"itl"`):
            The references: picks of an acquisition, by name or as an object, which is run on the same request first; or
            row numbers of a selection at hand, in its order; or `"targets"`, whose texts then give the lengths: words
            of prompts and completions if all targets have one, else of prompts alone, of targets and pool alike.
        lengths (`Sequence[float]`, *optional*):
            (N,) the length of each row, such as its tokens.
        strata (`int`, *optional*, defaults to 20):
            How many strata.
        seed (`int`, *optional*, defaults to 0):
            Seed of the draw.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            See `ITL`; also that of the reference.
        target_noise_std (`float`, *optional*):
            See `ITL`.

    A continued selection matches the lengths of a reference that is continued from these picks, not from its own.

    Example:
        >>> from itl_hf import select_rows
        >>> control = LengthMatchedRandom(like=[2], lengths=[5, 900, 950, 6], strata=2)
        >>> int(select_rows([[1.0], [2.0], [4.0], [7.0]], [[1.0]], 1, acquisition=control).indices[0]) in (1, 2)
        True
    """

    like: Any = "itl"
    lengths: Sequence[float] | None = dataclasses.field(default=None, repr=False)
    strata: int = 20
    seed: int = 0
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "length_matched_random"

    def __post_init__(self) -> None:
        check_whole("strata", self.strata, 1)
        check_whole("seed", self.seed, 0)
        object.__setattr__(self, "like", self._checked_like())
        if self.lengths is not None:
            lengths = np.asarray(self.lengths, dtype=np.float64)
            if lengths.ndim != 1 or not np.isfinite(lengths).all():
                raise ValueError(f"lengths must be finite numbers, one a row, got an array of shape {lengths.shape}")
            object.__setattr__(self, "lengths", tuple(lengths.tolist()))

    def _checked_like(self) -> Any:
        like = self.like
        if isinstance(like, str):
            resolved = None if like == "targets" else resolve_acquisition(like)
        elif isinstance(like, Acquisition):
            resolved = like
        else:
            resolved, like = None, tuple(int(row) for row in like)
            if not like:
                raise ValueError("like: an empty selection has no lengths to match")
        if isinstance(resolved, LengthMatchedRandom):
            raise ValueError("like must be another acquisition than length_matched_random itself")
        return like

    @property
    def reads(self) -> Reads:
        """Texts or costs, unless the lengths are given."""
        return "features" if self.lengths is not None and self.like != "targets" else "lengths"

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """For each reference, a random row of its stratum."""
        lengths, of_targets = self._lengths(pool.num_rows, request)
        references = of_targets if self.like == "targets" else lengths[self._references(pool, gp, request)]
        edges = torch.from_numpy(np.quantile(lengths.numpy(), np.linspace(0, 1, self.strata + 1)[1:-1]))
        strata, wanted = torch.bucketize(lengths, edges), torch.bucketize(references, edges).tolist()
        drawn = torch.randperm(pool.num_rows, generator=torch.Generator().manual_seed(self.seed))
        drawn = drawn[request.open_rows(pool.num_rows)[drawn]]
        of_row = strata[drawn]
        queues = [drawn[of_row == stratum].tolist()[::-1] for stratum in range(self.strata)]
        first = request.num_continued if isinstance(self.like, tuple) else 0
        return measured(again(_matched(queues, wanted, request, first), request), pool, gp, request)

    def _references(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> list[int]:
        if isinstance(self.like, tuple):
            for row in self.like:
                if not 0 <= row < pool.num_rows:
                    raise ValueError(f"like: row {row} is not among the {pool.num_rows} rows of the pool")
            return list(self.like)
        chosen = resolve_acquisition(self.like)
        # The tracker counts what is picked; the reference must not use up those of the control.
        alone = dataclasses.replace(request, availability=copy.deepcopy(request.availability), on_picks=None, stop=None)
        return chosen.pick(pool, gp, alone).indices

    def _lengths(self, num_rows: int, request: SelectionRequest) -> tuple[Tensor, Tensor]:
        """Of the pool's rows and of the targets, (N,), (m,) float64."""
        if self.like == "targets":
            if request.texts is None:
                raise ValueError("like='targets' reads the targets' lengths: give texts=(pool's texts, targets' texts)")
            pool, targets = request.texts.both("auto")
            return _words(pool), _words(targets)
        none = torch.zeros(0, dtype=torch.float64)
        if self.lengths is not None:
            if len(self.lengths) != num_rows:
                raise ValueError(f"lengths must hold one number for each of {num_rows} rows, got {len(self.lengths)}")
            return torch.tensor(self.lengths, dtype=torch.float64), none
        if request.availability.costs is not None:
            return request.availability.costs, none
        if request.texts is None:
            raise ValueError("length_matched_random needs lengths=, costs of the rows, or their texts")
        return _words(request.texts.both("whole")[0]), none


def _matched(queues: list[list[int]], wanted: list[int], request: SelectionRequest, first: int) -> list[int]:
    """Takes rows from the ends of the queues, each pick from the queue wanted or the nearest that is not empty."""
    picks: list[int] = []
    while len(picks) < request.availability.num_examples:
        stratum = wanted[(first + len(picks)) % len(wanted)]
        row = None
        for queue in sorted(range(len(queues)), key=lambda other: (abs(other - stratum), other)):
            while queues[queue] and row is None:
                drawn = queues[queue].pop()
                row = drawn if is_open(drawn, request.availability) else None  # what is closed stays closed
            if row is not None:
                break
        if row is None:
            break
        request.availability.record_pick(row)
        picks.append(row)
    return picks


def _words(texts: list[str]) -> Tensor:
    return torch.tensor([len(text.split()) for text in texts], dtype=torch.float64)
