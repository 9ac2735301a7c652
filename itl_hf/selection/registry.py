"""Acquisitions by name, and what follows from a name: building one, checking its noise, describing it for a record.

Classes are imported when they are asked for, so that this module depends on none of them and all may depend on it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import json
from typing import Any

from itl_hf.selection.option_types import check_instance, plain_number
from itl_hf.selection.protocol import NOISE_RULES, Acquisition, reads

_OURS, _BASELINES = "itl_hf.selection.acquisitions", "itl_hf.selection.baselines"
#: Module and class of every acquisition; `sift`, `rds` and `doubly_greedy` are other names of `vtl`, `round_robin` and
#: `less`.
_CLASS_PATHS = {
    "itl": (_OURS, "ITL"),
    "vtl": (_OURS, "VTL"),
    "sift": (_OURS, "VTL"),
    "mean_marginal_itl": (_OURS, "MeanMarginalITL"),
    "ctl": (_OURS, "CTL"),
    "undirected": (_OURS, "Undirected"),
    "random": (_BASELINES, "Random"),
    "length_matched_random": (_BASELINES, "LengthMatchedRandom"),
    "cosine": (_BASELINES, "Cosine"),
    "max_similarity": (_BASELINES, "MaxSimilarity"),
    "round_robin": (_BASELINES, "RoundRobin"),
    "rds": (_BASELINES, "RoundRobin"),
    "balanced_round_robin": (_BASELINES, "BalancedRoundRobin"),
    "information_density": (_BASELINES, "InformationDensity"),
    "badge": (_BASELINES, "BADGE"),
    "k_center": (_BASELINES, "KCenter"),
    "k_means": (_BASELINES, "KMeans"),
    "less": (_BASELINES, "LESS"),
    "doubly_greedy": (_BASELINES, "LESS"),
    "less_round_robin": (_BASELINES, "LESSRoundRobin"),
    "gist": (_BASELINES, "GIST"),
    "unbalanced_transport": (_BASELINES, "UnbalancedTransport"),
    "loss_drop": (_BASELINES, "LossDrop"),
    "dsir": (_BASELINES, "DSIR"),
    "bm25": (_BASELINES, "BM25"),
}
ACQUISITION_NAMES = tuple(_CLASS_PATHS)
#: Options of an acquisition that hold more values than this are recorded by their number and hash.
RECORDED_VALUES = 64
#: Noises whose squares 64-bit numbers can be computed with; `itl_hf.search.exactness` compares them with the kernel.
LEAST_NOISE_STD, MOST_NOISE_STD = 1e-60, 1e60


def acquisition_class(name: str) -> Any:
    """The class of the acquisition of this name.

    Raises:
        `ValueError`: If there is no acquisition of this name.

    Example:
        >>> acquisition_class("rds").__name__
        'RoundRobin'
    """
    if name not in _CLASS_PATHS:
        raise ValueError(f"unknown acquisition {name!r}; known: {', '.join(sorted(ACQUISITION_NAMES))}")
    module, class_name = _CLASS_PATHS[name]
    return getattr(importlib.import_module(module), class_name)


def has_seed(name: str) -> bool:
    """Whether the acquisition of this name draws rows at random."""
    return "seed" in {one.name for one in dataclasses.fields(acquisition_class(name))}


#: What every acquisition has.
_ACQUISITION = ("name", "noise_std", "target_noise_std", "pick")


def resolve_acquisition(acquisition: str | Acquisition, **options: Any) -> Acquisition:
    """The acquisition of this name with the options given, or the object itself.

    Args:
        acquisition (`str` or `Acquisition`):
            A name of `ACQUISITION_NAMES`, or an object that has its own options.
        **options:
            `noise_std`, `target_noise_std` and what the named class takes; `None` leaves the class's default.

    Raises:
        `ValueError`: If the name is unknown, options stand beside an object, or a noise is out of its range.
        `TypeError`: If it is neither a name nor an acquisition.
    """
    set_options = {key: plain_number(value) for key, value in options.items() if value is not None}
    if not isinstance(acquisition, str):
        if set_options:
            raise ValueError(
                f"{', '.join(set_options)}: set on {type(acquisition).__name__}(...) itself when acquisition is an "
                "object"
            )
        check_instance("acquisition", acquisition, _ACQUISITION, "a name such as 'itl' or an object such as ITL()")
        _check_noise(acquisition)
        return acquisition
    if "seed" in set_options and not has_seed(acquisition):
        raise ValueError(f"seed belongs to acquisitions that draw, such as 'random'; {acquisition!r} draws nothing")
    acquisition_object: Acquisition = acquisition_class(acquisition)(**set_options)
    _check_noise(acquisition_object)
    return acquisition_object


def describe_acquisition(acquisition: Acquisition) -> dict[str, Any]:
    """The acquisition's options for the record of a selection, and what it reads, JSON types."""
    options = {one.name: _shorten(getattr(acquisition, one.name)) for one in dataclasses.fields(acquisition)}  # type: ignore[arg-type]
    if options.get("avoid") is None:
        options.pop("avoid", None)
    return {**options, "reads": reads(acquisition), **getattr(acquisition, "used", dict)()}


def _check_noise(acquisition: Acquisition) -> None:
    """Raises `ValueError` unless the acquisition's noises are numbers in their range (or left to the rule)."""
    if not (isinstance(acquisition.noise_std, str) and acquisition.noise_std in NOISE_RULES):
        _check_number("noise_std", acquisition.noise_std, positive=True)
        if not LEAST_NOISE_STD <= float(acquisition.noise_std) <= MOST_NOISE_STD:
            raise ValueError(
                f"noise_std must be between {LEAST_NOISE_STD:g} and {MOST_NOISE_STD:g}, got {acquisition.noise_std!r}; "
                "with the default preparation, noise_std='auto' is near 1"
            )
    if acquisition.target_noise_std is not None:
        _check_number("target_noise_std", acquisition.target_noise_std, positive=False)
        if float(acquisition.target_noise_std) > MOST_NOISE_STD:
            raise ValueError(
                f"target_noise_std must be at most {MOST_NOISE_STD:g}, got {acquisition.target_noise_std!r}"
            )


def _check_number(name: str, value: Any, positive: bool) -> None:
    number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else float("nan")
    if not (0 <= number < float("inf")) or (positive and number == 0):
        bound = "positive" if positive else "0 or positive"
        raise ValueError(f"{name} must be {bound} and finite, got {value!r}")


def _shorten(value: Any) -> Any:
    """Long lists by their length and hash, objects as they describe themselves."""
    if hasattr(value, "to_json"):
        return value.to_json()
    if not isinstance(value, list | tuple) or len(value) <= RECORDED_VALUES:
        return value
    text = json.dumps(value, default=str).encode()
    return f"{len(value)} values, sha256 {hashlib.sha256(text).hexdigest()[:16]}"
