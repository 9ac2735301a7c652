"""`quality` and `target_weights` as users give them: numbers, one for each row, checked before anything is computed."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itl_hf.gp.quality import Quality
from itl_hf.selection.feature_arrays import refuse_masked
from itl_hf.selection.protocol import Acquisition

#: One number for each row.
Numbers = Sequence[float] | np.ndarray | Tensor


def resolve_quality(quality: Numbers | None, num_rows: int) -> Tensor | None:
    """Returns the quality of each row of the pool, (N,) float64; `None` if it is 1 for all.

    Raises:
        `ValueError`: If there is not one number above 0 and at most 1 for each row; the row is named.
    """
    numbers = _read(quality, num_rows, "quality", "row", "rows of the pool")
    if numbers is None:
        return None
    _check(numbers, (numbers > 0) & (numbers <= 1), "quality: row", "above 0 and at most 1 (1: a perfect answer)")
    return None if bool((numbers == 1).all()) else numbers


def resolve_target_weights(target_weights: Numbers | None, num_targets: int) -> Tensor | None:
    """Returns the weight of each target, (m,) float64; `None` if it is 1 for all.

    Raises:
        `ValueError`: If there is not one positive finite number for each target; the target is named.
    """
    numbers = _read(target_weights, num_targets, "target_weights", "target", "targets")
    if numbers is None:
        return None
    _check(numbers, (numbers > 0) & torch.isfinite(numbers), "target_weights: target", "positive and finite")
    return None if bool((numbers == 1).all()) else numbers


def check_uses(acquisition: Acquisition, quality: Tensor | None, target_weights: Tensor | None) -> None:
    """Warns if the acquisition does not use quality to pick.

    Raises:
        `ValueError`: If there are weights of targets and the acquisition has no use for them.
    """
    if target_weights is not None and not getattr(acquisition, "weighs_targets", False):
        raise ValueError(
            f"acquisition {acquisition.name!r} has no use for target_weights: its picks do not depend on how often a "
            "target is repeated. Leave target_weights out, or use an acquisition such as 'itl', 'vtl', 'cosine' or "
            "'round_robin'"
        )
    if quality is not None and not getattr(acquisition, "uses_quality", False):
        warnings.warn(
            f"acquisition {acquisition.name!r} does not use quality to pick: its picks are those without it. Gains and "
            "variances account for it.",
            stacklevel=3,
        )


def describe_numbers(numbers: Tensor | None) -> dict[str, Any] | None:
    """Returns what the record says of one number for each row: smallest, mean and largest; `None` without numbers."""
    if numbers is None:
        return None
    return {"smallest": float(numbers.min()), "mean": float(numbers.mean()), "largest": float(numbers.max())}


def of_rows(quality: Tensor | None, indices: Sequence[int]) -> Quality:
    """Returns the quality of the rows of these numbers, (h,), or 1.0 for all of them."""
    return 1.0 if quality is None or len(indices) == 0 else quality[list(indices)]


def _read(values: Any, count: int, name: str, one: str, all_of_them: str) -> Tensor | None:
    if values is None:
        return None
    if isinstance(values, str):
        raise ValueError(
            f"{name}={values!r}: here are no columns; give one number for each of the {count} {all_of_them}"
        )
    refuse_masked(values, name)
    array = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, dtype=object)
    if array.shape != (count,):
        raise ValueError(
            f"{name} must hold one number for each of the {count} {all_of_them}, got an array of shape {array.shape}"
        )
    try:
        return torch.from_numpy(np.array([_number(value) for value in array], dtype=np.float64))
    except (TypeError, ValueError):
        place = next(place for place, value in enumerate(array) if not _is_number(value))
        raise ValueError(f"{name}: {one} {place} holds {array[place]!r:.40}, which is no number") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)


def _number(value: Any) -> float:
    if not _is_number(value):
        raise TypeError(value)
    return float(value)


def _check(numbers: Tensor, is_valid: Tensor, where: str, what: str) -> None:
    wrong = (~is_valid).nonzero()[:, 0]
    if len(wrong):
        raise ValueError(f"{where} {int(wrong[0])} has {float(numbers[wrong[0]]):g}; every number must be {what}")
