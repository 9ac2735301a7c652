"""`quality` and `target_weights` as users give them: numbers, one for each row, checked before anything is computed."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from datasets import Dataset
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


def check_weighs_targets(acquisition: Acquisition, target_weights: Tensor | None) -> None:
    """Raises `ValueError` if there are weights of targets and the acquisition has no use for them."""
    if target_weights is not None and not getattr(acquisition, "weighs_targets", False):
        raise ValueError(
            f"acquisition {acquisition.name!r} has no use for target_weights: its picks do not depend on how often a "
            "target is repeated. Leave target_weights out, or use an acquisition such as 'itl', 'vtl', 'cosine' or "
            "'round_robin'"
        )


def warn_if_unused(acquisition: Acquisition, quality: Tensor | None) -> None:
    """Warns if rows differ in quality and the acquisition does not use it to pick."""
    if quality is not None and not getattr(acquisition, "uses_quality", False):
        warnings.warn(
            f"acquisition {acquisition.name!r} does not use quality to pick: its picks are those without it. Gains and "
            "variances account for it.",
            stacklevel=4,
        )


def describe_quality(quality: Tensor | None) -> dict[str, Any] | None:
    """Returns what the record says of the rows' quality: smallest, mean and largest; `None` without numbers."""
    if quality is None:
        return None
    return {"smallest": float(quality.min()), "mean": float(quality.mean()), "largest": float(quality.max())}


def describe_weights(target_weights: Tensor | None) -> dict[str, Any] | None:
    """Returns what the record says of the targets' weights: the same, and the weights themselves as `values`."""
    entries = describe_quality(target_weights)
    return None if entries is None or target_weights is None else {**entries, "values": target_weights.tolist()}


def of_rows(quality: Tensor | None, indices: Sequence[int]) -> Quality:
    """Returns the quality of the rows of these numbers, (h,), or 1.0 for all of them."""
    return 1.0 if quality is None or len(indices) == 0 else quality[list(indices)]


@dataclass(frozen=True)
class RowNumbers:
    """Quality of the pool's rows and weights of the targets, read from columns where columns were named.

    Args:
        quality (`Tensor`, *optional*):
            (N,) float64; `None` if it is 1 for all.
        target_weights (`Tensor`, *optional*):
            (m,) float64; `None` if it is 1 for all.
        columns (`dict`):
            Name of the column by argument, for those that were read from one.
    """

    quality: Tensor | None = None
    target_weights: Tensor | None = None
    columns: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls, pool: Dataset, targets: Dataset, quality: str | Numbers | None, target_weights: str | Numbers | None
    ) -> RowNumbers:
        """Reads columns, and checks all numbers.

        Raises:
            `ValueError`: If there is no such column, or a number is out of its range; its row is named.
        """
        columns = {"quality": quality, "target_weights": target_weights}
        return cls(
            resolve_quality(_column(pool, quality, "quality", "pool"), len(pool)),
            resolve_target_weights(_column(targets, target_weights, "target_weights", "targets"), len(targets)),
            {name: column for name, column in columns.items() if isinstance(column, str)},
        )

    def without_targets(self, rows: Sequence[int] | np.ndarray) -> RowNumbers:
        """Returns the same numbers without the weights of these targets."""
        if self.target_weights is None or len(rows) == 0:
            return self
        kept_rows = np.setdiff1d(np.arange(len(self.target_weights)), rows)
        return dataclasses.replace(self, target_weights=self.target_weights[kept_rows.tolist()])

    def record_entries(self, **entries: dict[str, Any] | None) -> dict[str, Any]:
        """Returns entries of a record with the name of the column that each was read from."""
        return {
            name: {**entry, "column": self.columns[name]} if entry is not None and name in self.columns else entry
            for name, entry in entries.items()
        }


def _column(rows: Dataset, values: Any, name: str, side: str) -> Any:
    """Returns the values of a column where a name was given, else the values themselves."""
    if not isinstance(values, str):
        return values
    if values not in rows.column_names:
        raise ValueError(f"{name}: no column {values!r} in the {side}; its columns are {rows.column_names}")
    return rows[values][:]


def _read(values: Any, count: int, name: str, one: str, all_of_them: str) -> Tensor | None:
    if values is None:
        return None
    if isinstance(values, str):
        raise ValueError(
            f"{name}={values!r}: here are no columns; give one number for each of the {count} {all_of_them}"
        )
    refuse_masked(values, name)
    array = np.asarray(values.detach().cpu().double() if isinstance(values, Tensor) else values)
    if array.shape != (count,):
        raise ValueError(
            f"{name} must hold one number for each of the {count} {all_of_them}, got an array of shape {array.shape}"
        )
    if array.dtype.kind not in "fiu":
        objects = np.asarray(values, dtype=object)  # as they were: an array of texts would turn numbers into text
        place = next((place for place, value in enumerate(objects) if not _is_number(value)), None)
        if place is not None:
            raise ValueError(f"{name}: {one} {place} holds {objects[place]!r:.40}, which is no number")
    return torch.from_numpy(array.astype(np.float64))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool | np.bool_)


def _check(numbers: Tensor, is_valid: Tensor, where: str, what: str) -> None:
    wrong = (~is_valid).nonzero()[:, 0]
    if len(wrong):
        raise ValueError(f"{where} {int(wrong[0])} has {float(numbers[wrong[0]]):g}; every number must be {what}")
