"""The ways to choose rows, as the user names them: ITL, its relatives, and the rivals it is compared with, behind one
protocol.

Every acquisition carries the noise of the Gaussian process, also those that pick without one: the information gain and
the target variance of any selection are then measured in the same way and can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch

from itl_hf import distributed
from itl_hf.gp import objectives, targeted
from itl_hf.gp.candidates import RowMemory
from itl_hf.gp.greedy import Picked
from itl_hf.gp.limits import Limits
from itl_hf.gp.objectives import Objective, Setting
from itl_hf.gp.pool import Pool
from itl_hf.gp.speculate import speculative_greedy

Noise = float | Literal["auto"]


@dataclass(frozen=True)
class Request:
    """What is asked of an acquisition.

    Args:
        limits (`Limits`): how many rows to pick, and what they may not exceed.
        replace (`bool`): whether a row may be picked again.
        known (`Tensor`): (h, d) prepared rows that were trained on before; the posterior starts from them.
        exclude (`Sequence[int]`): pool rows that may not be picked.
        on_picks (`Callable`, *optional*): called with the number of further picks, for a progress bar.
    """

    limits: Limits
    replace: bool
    known: torch.Tensor
    exclude: Sequence[int] = ()
    on_picks: Callable[[int], object] | None = None
    stop: Callable[[Objective, list[float]], int | None] | None = None


@runtime_checkable
class Acquisition(Protocol):
    """A way to choose rows. `name` is how users ask for it; the noises are as in `ITL`."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def noise_std(self) -> Noise:
        """See `ITL`."""

    @property
    def target_noise_std(self) -> float | None:
        """See `ITL`."""

    def pick(self, pool: Pool, setting: Setting, request: Request) -> Picked:
        """Row numbers in the order picked, and the gain of each."""


@dataclass(frozen=True)
class ITL:
    """Information-based transductive learning: the row whose answer would tell most about the targets, given those
    picked before.

    Args:
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`): standard deviation of the noise on a row's
            answer, relative to sqrt(mean k(x, x)) = 1. Small values seek variety, large ones relevance; for the rule
            see `itl_hf.gp.noise`.
        target_noise_std (`float`, *optional*): noise on the targets' values; defaults to `noise_std`, which gives
            I(y(A); y_x). 0 gives I(f(A); y_x), which loses its direction when the targets span the whole feature space.

    Example:
        >>> from itl_hf import ITL
        >>> ITL(noise_std=1.0).name
        'itl'
    """

    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "itl"

    def pick(self, pool: Pool, setting: Setting, request: Request) -> Picked:
        """Exact greedy maximisation of the objective of this name."""
        objective: Objective = targeted.OBJECTIVES[self.name](setting)
        for row in request.known:
            objective.observe(row)
        return speculative_greedy(
            pool,
            objective,
            request.limits.num_examples,
            limits=request.limits,
            replace=request.replace,
            exclude=request.exclude,
            on_picks=request.on_picks,
            stop=request.stop,
        )


@dataclass(frozen=True)
class VTL(ITL):
    """Variance-based transductive learning: the row that removes most of the targets' total variance; SIFT when there
    is one target.
    """

    name: str = "vtl"


@dataclass(frozen=True)
class MeanMarginalITL(ITL):
    """The row that tells most about each target taken for itself, on average."""

    name: str = "mean_marginal_itl"


@dataclass(frozen=True)
class CTL(ITL):
    """The row with the largest mean posterior correlation with the targets."""

    name: str = "ctl"


@dataclass(frozen=True)
class Undirected(ITL):
    """The row the model knows least about, whatever the targets (uncertainty sampling)."""

    name: str = "undirected"


@dataclass(frozen=True)
class Cosine:
    """Nearest-neighbour retrieval: the rows with the highest mean cosine similarity to the targets.

    Sees neither what was picked before nor that targets differ, so a mixture of tasks is served by its commonest one.
    """

    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "cosine"

    def pick(self, pool: Pool, setting: Setting, request: Request) -> Picked:
        """The best rows by a fixed score; ties go to the lowest row number."""
        towards = torch.nn.functional.normalize(setting.targets).mean(
            0
        )  # (d,), its product with a unit row is the mean cosine
        parts = [torch.nn.functional.normalize(rows) @ towards for _, rows in pool.blocks()]
        scores = distributed.gather_rows(torch.cat([setting.targets.new_zeros(0), *parts]))  # (N,)
        scores = (
            scores * 1e12
        ).round()  # equal rows may differ in their last bits with their place in a matrix product
        scores[list(request.exclude)] = -torch.inf
        open_rows = len(scores) - len(set(request.exclude))
        order = torch.sort(scores, descending=True, stable=True).indices[:open_rows]
        return with_information_gain(in_order(order, request.limits), pool, setting, request.known)


@dataclass(frozen=True)
class Random:
    """Rows drawn uniformly without replacement: what most people do, and the floor that every method must beat.

    Args:
        seed (`int`, *optional*, defaults to 0): seed of the draw.
    """

    seed: int = 0
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "random"

    def pick(self, pool: Pool, setting: Setting, request: Request) -> Picked:
        """A seeded permutation's first rows; its own generator, so nothing else is disturbed."""
        generator = torch.Generator().manual_seed(self.seed)
        if request.replace:
            drawn = torch.randint(pool.num_rows, (request.limits.num_examples,), generator=generator)
        else:  # all rows are drawn, and those known before left out: a selection continued is one longer selection
            drawn = torch.randperm(pool.num_rows, generator=generator)
            drawn = drawn[~torch.isin(drawn, torch.tensor(list(request.exclude), dtype=torch.int64))]
        return with_information_gain(in_order(drawn, request.limits), pool, setting, request.known)


ACQUISITIONS: dict[str, Callable[..., Acquisition]] = {
    "itl": ITL,
    "vtl": VTL,
    "sift": VTL,
    "mean_marginal_itl": MeanMarginalITL,
    "ctl": CTL,
    "undirected": Undirected,
    "cosine": Cosine,
    "random": Random,
}


def resolve_acquisition(acquisition: str | Acquisition, **options: Any) -> Acquisition:
    """The acquisition of this name with the options given, or the object itself.

    Args:
        acquisition (`str` or `Acquisition`): a name of `ACQUISITIONS`, or an object that says its own options.
        **options: `noise_std`, `target_noise_std` and what the named class takes; `None` leaves the class's
            default.

    Raises:
        `ValueError`: unknown name, or options beside an object.
    """
    given = {key: value for key, value in options.items() if value is not None}
    if not isinstance(acquisition, str):
        if given:
            raise ValueError(
                f"{', '.join(given)}: set on {type(acquisition).__name__}(...) itself when acquisition is an object"
            )
        return acquisition
    if acquisition not in ACQUISITIONS:
        raise ValueError(f"unknown acquisition {acquisition!r}; known: {', '.join(sorted(ACQUISITIONS))}")
    if "seed" in given and acquisition != "random":
        raise ValueError(f"seed belongs to acquisition='random'; {acquisition!r} draws nothing")
    return ACQUISITIONS[acquisition](**given)


def check_noise(acquisition: Acquisition) -> None:
    """Raises `ValueError` unless the acquisition's noises are numbers in their range (or left to the rule)."""
    if acquisition.noise_std != "auto":
        _check_number("noise_std", acquisition.noise_std, positive=True)
    if acquisition.target_noise_std is not None:
        _check_number("target_noise_std", acquisition.target_noise_std, positive=False)


def _check_number(name: str, value: Any, positive: bool) -> None:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
    if not (0 <= number < float("inf")) or (positive and number == 0):
        bound = "positive" if positive else "0 or positive"
        raise ValueError(f"{name} must be {bound} and finite, got {value!r}")


def describe(acquisition: Acquisition) -> dict[str, Any]:
    """The acquisition's options for the record of a selection, JSON types."""
    return asdict(acquisition)  # type: ignore[call-overload, no-any-return]


def in_order(rows: torch.Tensor, limits: Limits) -> list[int]:
    """The first rows of an order that the limits leave open, (N,) -> n row numbers."""
    if not limits.bind:
        return rows[: limits.num_examples].tolist()
    picks: list[int] = []
    for row in rows.tolist():
        if len(picks) == limits.num_examples:
            break
        if bool(limits.mask(limits.opening(), torch.tensor([row]))):
            limits.take(row)
            picks.append(row)
    return picks


def with_information_gain(indices: list[int], pool: Pool, setting: Setting, known: torch.Tensor) -> Picked:
    """Measures picks that were made without a Gaussian process by what each tells about the targets, given those before
    it.
    """
    objective, rows = objectives.ITL(setting), pool.rows(indices)
    for row in known:
        objective.observe(row)
    state, start = objective.begin(rows)
    memory = RowMemory(start, len(objective.posteriors), len(known) + len(indices))
    gains = []
    told = 0
    for place, row in enumerate(rows):
        if objective.count > told:
            picks = objective.picks(told, objective.count)
            columns = objective.columns(rows, memory.views(), picks)
            state, told = objective.advance(state, columns, picks), objective.count
            memory.append(columns)
        gains.append(float(objective.gain(objective.score(state[:, place : place + 1], told))))
        objective.observe(row)
    return Picked(indices, gains)
