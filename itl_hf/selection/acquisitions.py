"""The ways to choose rows, as the user names them: ITL and the rivals it is compared with, behind one protocol.

Every acquisition carries the noise of the Gaussian process, also those that pick without one: the information gain and
the target variance of any selection are then measured in the same way and can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from itl_hf.gp.greedy import Picks, greedy
from itl_hf.gp.noise import effective_rank, picks_per_direction
from itl_hf.gp.objectives import InformationGain
from itl_hf.gp.pool import Pool

Noise = float | Literal["auto"]
OnPick = Callable[[], object] | None


@dataclass(frozen=True)
class NoiseModel:
    """The noise in force for one selection: resolved numbers, and where they came from."""

    noise_std: float
    target_noise_std: float
    rule: str
    effective_rank: float


@runtime_checkable
class Acquisition(Protocol):
    """A way to choose rows. `name` is how users ask for it; `noise_std` and `target_noise_std` as in `ITL`."""

    @property
    def name(self) -> str:
        """What users call it."""

    @property
    def noise_std(self) -> Noise:
        """See `ITL`."""

    @property
    def target_noise_std(self) -> float | None:
        """See `ITL`."""

    def pick(
        self, pool: Pool, targets: Tensor, num_examples: int, noise: NoiseModel, replace: bool, on_pick: OnPick
    ) -> Picks:
        """Row numbers in the order picked, and the information gain of each about the targets (nats)."""


@dataclass(frozen=True)
class ITL:
    """Information-based transductive learning: the row whose answer would tell most about the targets, given those
    picked before.

    Args:
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`): standard deviation of the noise on a row's
            answer, relative to sqrt(mean k(x, x)) = 1. Small values seek variety, large ones relevance. `"auto"` takes
            sqrt(num_examples / effective rank of the targets).
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

    def pick(
        self, pool: Pool, targets: Tensor, num_examples: int, noise: NoiseModel, replace: bool, on_pick: OnPick
    ) -> Picks:
        """Exact greedy maximisation of the information gain."""
        objective = InformationGain(targets, noise.noise_std, noise.target_noise_std)
        return greedy(pool, objective, num_examples, replace=replace, on_pick=on_pick)


@dataclass(frozen=True)
class Cosine:
    """Nearest-neighbour retrieval: the rows with the highest mean cosine similarity to the targets.

    Sees neither what was picked before nor that targets differ, so a mixture of tasks is served by its commonest one.
    """

    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "cosine"

    def pick(
        self, pool: Pool, targets: Tensor, num_examples: int, noise: NoiseModel, replace: bool, on_pick: OnPick
    ) -> Picks:
        """The `num_examples` best rows by a fixed score; ties go to the lowest row number."""
        towards = torch.nn.functional.normalize(targets).mean(0)  # (d,), its product with a unit row is the mean cosine
        scores = torch.cat([torch.nn.functional.normalize(rows) @ towards for _, rows in pool.blocks()])  # (N,)
        order = torch.sort(scores, descending=True, stable=True).indices[:num_examples]
        return with_information_gain(order.tolist(), pool, targets, noise)


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

    def pick(
        self, pool: Pool, targets: Tensor, num_examples: int, noise: NoiseModel, replace: bool, on_pick: OnPick
    ) -> Picks:
        """A seeded permutation's first rows; its own generator, so nothing else is disturbed."""
        generator = torch.Generator().manual_seed(self.seed)
        if replace:
            drawn = torch.randint(pool.num_rows, (num_examples,), generator=generator)
        else:
            drawn = torch.randperm(pool.num_rows, generator=generator)[:num_examples]
        return with_information_gain(drawn.tolist(), pool, targets, noise)


ACQUISITIONS: dict[str, Callable[..., Acquisition]] = {"itl": ITL, "cosine": Cosine, "random": Random}


def resolve_acquisition(acquisition: str | Acquisition, **options: Any) -> Acquisition:
    """The acquisition of this name with the options given, or the object itself.

    Args:
        acquisition (`str` or `Acquisition`): one of "itl", "cosine", "random", or an object that says its own options.
        **options: `noise_std`, `target_noise_std` and what the named class takes; `None` leaves the class's default.

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
    return ACQUISITIONS[acquisition](**given)


def resolve_noise(acquisition: Acquisition, targets: Tensor, num_examples: int) -> NoiseModel:
    """Numbers for the noise: as given, or by the rule of `itl_hf.gp.noise`."""
    if acquisition.noise_std == "auto":
        noise_std, rule = (
            picks_per_direction(targets, num_examples),
            "auto: sqrt(num_examples / effective rank of the targets)",
        )
    else:
        noise_std, rule = check_noise("noise_std", acquisition.noise_std, positive=True), "given"
    given = acquisition.target_noise_std
    target_noise_std = noise_std if given is None else check_noise("target_noise_std", given, positive=False)
    return NoiseModel(noise_std, target_noise_std, rule, effective_rank(targets))


def check_noise(name: str, value: float, positive: bool) -> float:
    """The value as a float, or an error that names the argument."""
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
    if not (0 <= number < float("inf")) or (positive and number == 0):
        bound = "positive" if positive else "0 or positive"
        raise ValueError(f"{name} must be {bound} and finite, got {value!r}")
    return number


def describe(acquisition: Acquisition) -> dict[str, Any]:
    """The acquisition's options for the record of a selection, JSON types."""
    return asdict(acquisition)  # type: ignore[call-overload, no-any-return]


def with_information_gain(indices: list[int], pool: Pool, targets: Tensor, noise: NoiseModel) -> Picks:
    """Measures picks that were made without a Gaussian process by what each tells about the targets, given those before
    it.
    """
    objective = InformationGain(targets, noise.noise_std, noise.target_noise_std)
    gains = []
    for row in pool.rows(indices):
        gains.append(objective.score(objective.start(row[None])).item())
        objective.observe(row)
    return Picks(indices, gains)
