"""The ways to choose rows, as the user names them: ITL, its relatives, and the rivals it is compared with, behind one
protocol.

Every acquisition carries the noise of the Gaussian process, also those that pick without one: the information gain and
the target variance of any selection are then measured in the same way and can be compared.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.objectives.base import Objective
from itl_hf.objectives.registry import OBJECTIVES
from itl_hf.search.greedy import GreedyPicks
from itl_hf.search.speculative import speculative_greedy
from itl_hf.selection.baselines import (
    BADGE,
    BM25,
    DSIR,
    LESS,
    Cosine,
    InformationDensity,
    KCenter,
    KMeans,
    LengthMatchedRandom,
    MaxSimilarity,
    Random,
    RoundRobin,
)
from itl_hf.selection.protocol import Acquisition, Noise, SelectionRequest, reads

__all__ = [
    "ACQUISITIONS",
    "CTL",
    "ITL",
    "VTL",
    "Acquisition",
    "Cosine",
    "MeanMarginalITL",
    "Noise",
    "Random",
    "SelectionRequest",
    "Undirected",
    "check_noise",
    "describe",
    "resolve_acquisition",
]

#: Options of an acquisition that hold more values than this are recorded by their number and hash.
RECORDED_VALUES = 64


@dataclass(frozen=True)
class ITL:
    """Information-based transductive learning: the row whose answer would tell most about the targets, given those
    picked before.

    Args:
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Standard deviation of the noise on a row's answer, relative to sqrt(mean k(x, x)) = 1. Small values seek
            variety, large ones relevance; for the rule see `itl_hf.gp.noise`.
        target_noise_std (`float`, *optional*):
            Noise on the targets' values; defaults to `noise_std`, which gives I(y(A); y_x). 0 gives I(f(A); y_x), which
            loses its direction when the targets span the whole feature space.

    Example:
        >>> from itl_hf import ITL
        >>> ITL(noise_std=1.0).name
        'itl'
    """

    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "itl"

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Exact greedy maximisation of the objective of this name."""
        objective: Objective = OBJECTIVES[self.name](gp)
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

    Example:
        >>> from itl_hf import VTL, select_rows
        >>> select_rows([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0]], 1, acquisition=VTL(noise_std=1.0)).indices
        array([1])
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


ACQUISITIONS: dict[str, Callable[..., Acquisition]] = {
    "itl": ITL,
    "vtl": VTL,
    "sift": VTL,
    "mean_marginal_itl": MeanMarginalITL,
    "ctl": CTL,
    "undirected": Undirected,
    "random": Random,
    "length_matched_random": LengthMatchedRandom,
    "cosine": Cosine,
    "max_similarity": MaxSimilarity,
    "round_robin": RoundRobin,
    "rds": RoundRobin,
    "information_density": InformationDensity,
    "badge": BADGE,
    "k_center": KCenter,
    "k_means": KMeans,
    "less": LESS,
    "dsir": DSIR,
    "bm25": BM25,
}


def resolve_acquisition(acquisition: str | Acquisition, **options: Any) -> Acquisition:
    """The acquisition of this name with the options given, or the object itself.

    Args:
        acquisition (`str` or `Acquisition`):
            A name of `ACQUISITIONS`, or an object that says its own options.
        **options:
            `noise_std`, `target_noise_std` and what the named class takes; `None` leaves the class's default.

    Raises:
        `ValueError`: Unknown name, or options beside an object.
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
    kind: Any = ACQUISITIONS[acquisition]
    if "seed" in given and "seed" not in {field.name for field in dataclasses.fields(kind)}:
        raise ValueError(f"seed belongs to acquisitions that draw, such as 'random'; {acquisition!r} draws nothing")
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
    """The acquisition's options for the record of a selection, and what it reads, JSON types."""
    options = {name: _short(value) for name, value in asdict(acquisition).items()}  # type: ignore[call-overload]
    return {**options, "reads": reads(acquisition), **getattr(acquisition, "used", dict)()}


def _short(value: Any) -> Any:
    if not isinstance(value, list | tuple) or len(value) <= RECORDED_VALUES:
        return value
    text = json.dumps(value, default=str).encode()
    return f"{len(value)} values, sha256 {hashlib.sha256(text).hexdigest()[:16]}"
