"""Random baselines: rows at random, and rows at random among those of a given length."""

from __future__ import annotations

import copy
import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.search.greedy import GreedyPicks
from itl_hf.selection.baselines.ranking import turn_order
from itl_hf.selection.protocol import (
    Acquisition,
    Noise,
    Reads,
    SelectionRequest,
    check_whole,
    in_order,
    is_open,
    measure_picks,
    open_among,
    picks_in_order,
    repeat_picks,
)
from itl_hf.selection.registry import resolve_acquisition


@dataclass(frozen=True)
class Random:
    """Draws rows uniformly without replacement. Every method should be better than this.

    Args:
        seed (`int`, *optional*, defaults to 0):
            Seed of the draw.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> len(select_rows([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]], [[1.0, 0.0]], 2, acquisition="random", seed=3))
        2
    """

    seed: int = 0
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "random"
    weighs_targets: ClassVar[bool] = True  # it does not use the targets: there is nothing to weigh

    def __post_init__(self) -> None:
        check_whole("seed", self.seed, 0)

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks the first rows of a seeded permutation, drawn by a generator of its own."""
        generator = torch.Generator().manual_seed(self.seed)
        if request.replace:
            return measure_picks(self._with_replacement(pool.num_rows, request, generator), pool, gp, request)
        # All rows are permuted and excluded ones left out, so that a continued selection equals one longer selection.
        random_order = torch.randperm(pool.num_rows, generator=generator)
        return picks_in_order(random_order[request.open_rows(pool.num_rows)[random_order]], pool, gp, request)

    def _with_replacement(self, num_rows: int, request: SelectionRequest, generator: torch.Generator) -> list[int]:
        availability, picks = request.availability, list[int]()
        while len(picks) < availability.num_examples:
            rows = request.open_rows(num_rows).nonzero()[:, 0]
            rows = rows[open_among(rows, availability)]
            if len(rows) == 0:
                break
            draws = torch.randint(len(rows), (availability.num_examples - len(picks),), generator=generator)
            picks = in_order(rows[draws], availability, picks)
        return picks


@dataclass(frozen=True)
class LengthMatchedRandom:
    """Draws random rows with the lengths of the rows that another method picks.

    It is the control for the objection that a method only finds longer texts.

    Long answers alone improve fine-tuned models (Zhao et al., "Long Is More for Alignment", ICML 2024), so a method
    that prefers long rows should be better than random rows of the same lengths. The lengths of the pool are divided at
    their quantiles into `strata` of about equal size. Pick i is drawn uniformly, without replacement, from the stratum
    of the length of reference row i, or from the nearest stratum that has an available row (the shorter of two). So the
    first n picks match the first n references, for every n. If there are fewer references than picks, they are used
    again from the first.

    A row's length is its entry in `lengths`; otherwise its cost, if rows have costs; otherwise the number of words in
    its prompt and completion.

    Args:
        like (`str`, `Acquisition` or `Sequence[int]`, *optional*, defaults to `"itl"`):
            The references: the picks of an acquisition (a name or an object), which is run on the same request first;
            or the row numbers of a selection, in its order; or `"targets"`: the lengths are then the numbers of words
            of the targets and of the pool, with completions if all targets have one, otherwise of prompts alone.
        lengths (`Sequence[float]`, *optional*):
            (N,) the length of each row, such as its tokens.
        strata (`int`, *optional*, defaults to 20):
            Number of strata.
        seed (`int`, *optional*, defaults to 0):
            Seed of the draw.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            As in `ITL`; the reference uses it, too.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

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
            acquisition = None if like == "targets" else resolve_acquisition(like)
        elif isinstance(like, Acquisition):
            acquisition = like
        else:
            acquisition, like = None, tuple(int(row) for row in like)
            if not like:
                raise ValueError("like: an empty selection has no lengths to match")
        if isinstance(acquisition, LengthMatchedRandom):
            raise ValueError("like must be another acquisition than length_matched_random itself")
        return like

    @property
    def reads(self) -> Reads:
        """Texts or costs, unless the lengths were passed."""
        return "features" if self.lengths is not None and self.like != "targets" else "lengths"

    @property
    def weighs_targets(self) -> bool:
        """Whether weights of targets are used, which depends on the references: targets take turns by their weights."""
        return bool(getattr(self._reference_acquisition(), "weighs_targets", True))

    @property
    def uses_quality(self) -> bool:
        """Whether the references depend on the quality of rows."""
        return bool(getattr(self._reference_acquisition(), "uses_quality", False))

    def _reference_acquisition(self) -> Acquisition | None:
        if self.like == "targets" or isinstance(self.like, tuple):
            return None
        return resolve_acquisition(self.like)

    def check_sizes(self, num_rows: int, num_targets: int) -> None:
        """Raises `ValueError` unless there is a length for each row, if lengths were passed."""
        if self.lengths is not None and len(self.lengths) != num_rows:
            raise ValueError(f"lengths must hold one number for each of {num_rows} rows, got {len(self.lengths)}")

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks a random row of the stratum of each reference."""
        lengths, of_targets = self._lengths(pool.num_rows, request)
        if self.like == "targets":
            turn = turn_order(len(of_targets), gp.target_weights)
            references = of_targets[list(itertools.islice(turn, request.availability.num_examples))]
        else:
            references = lengths[self._references(pool, gp, request)]
        edges = torch.from_numpy(np.quantile(lengths.numpy(), np.linspace(0, 1, self.strata + 1)[1:-1]))
        strata, target_strata = torch.bucketize(lengths, edges), torch.bucketize(references, edges).tolist()
        random_order = torch.randperm(pool.num_rows, generator=torch.Generator().manual_seed(self.seed))
        random_order = random_order[request.open_rows(pool.num_rows)[random_order]]
        of_row = strata[random_order]
        queues = [random_order[of_row == stratum].tolist()[::-1] for stratum in range(self.strata)]
        first = request.num_continued if isinstance(self.like, tuple) else 0
        return measure_picks(
            repeat_picks(_match_strata(queues, target_strata, request, first), request), pool, gp, request
        )

    def _references(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> list[int]:
        if isinstance(self.like, tuple):
            for row in self.like:
                if not 0 <= row < pool.num_rows:
                    raise ValueError(f"like: row {row} is not among the {pool.num_rows} rows of the pool")
            return list(self.like)
        reference_acquisition = self._reference_acquisition()
        assert reference_acquisition is not None
        # A copy, because the availability counts picks, and those of the reference must not count for this method.
        own_request = dataclasses.replace(
            request, availability=copy.deepcopy(request.availability), on_picks=None, stop=None
        )
        return reference_acquisition.pick(pool, gp, own_request).indices

    def _lengths(self, num_rows: int, request: SelectionRequest) -> tuple[Tensor, Tensor]:
        """Returns the lengths of the pool's rows and of the targets, (N,), (m,) float64."""
        if self.like == "targets":
            if request.texts is None:
                raise ValueError("like='targets' reads the targets' lengths: give texts=(pool's texts, targets' texts)")
            pool, targets = request.texts.both("auto")
            return _words(pool), _words(targets)
        no_lengths = torch.zeros(0, dtype=torch.float64)
        if self.lengths is not None:
            return torch.tensor(self.lengths, dtype=torch.float64), no_lengths
        if request.availability.costs is not None:
            return request.availability.costs, no_lengths
        if request.texts is None:
            raise ValueError("length_matched_random needs lengths=, costs of the rows, or their texts")
        return _words(request.texts.both("whole")[0]), no_lengths


def _match_strata(
    queues: list[list[int]], target_strata: list[int], request: SelectionRequest, first: int
) -> list[int]:
    """Takes rows from the ends of the queues: each pick from the queue of its stratum or the nearest one with rows."""
    picks: list[int] = []
    while len(picks) < request.availability.num_examples:
        stratum = target_strata[(first + len(picks)) % len(target_strata)]
        row = None
        for queue in sorted(range(len(queues)), key=lambda other: (abs(other - stratum), other)):
            while queues[queue] and row is None:
                candidate_row = queues[queue].pop()
                # An unavailable row stays unavailable, so it is dropped.
                row = candidate_row if is_open(candidate_row, request.availability) else None
            if row is not None:
                break
        if row is None:
            break
        request.availability.record_pick(row)
        picks.append(row)
    return picks


def _words(texts: list[str]) -> Tensor:
    return torch.tensor([len(text.split()) for text in texts], dtype=torch.float64)
