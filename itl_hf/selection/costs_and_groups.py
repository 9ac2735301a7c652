"""Costs and groups of rows as users give them, checked and turned into the numbers that the search reads."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itl_hf.selection.feature_arrays import refuse_masked

Shares = Mapping[Any, tuple[float, float]] | float


def check_costs(costs: Any, num_rows: int) -> Tensor:
    """Returns the costs as (N,) float64.

    Raises:
        `ValueError`: If there is not one number for each of `num_rows` rows, or one is not finite or negative.
    """
    refuse_masked(costs, "costs")
    try:
        values = torch.from_numpy(np.array(costs, dtype=np.float64))
    except (ValueError, TypeError) as error:
        raise ValueError(f"costs must hold one number for each row: {error}") from error
    if values.shape != (num_rows,):
        raise ValueError(f"costs must hold one number for each of the {num_rows} rows, got shape {tuple(values.shape)}")
    bad_rows = (~(torch.isfinite(values) & (values >= 0))).nonzero()
    if len(bad_rows):
        row = int(bad_rows[0])
        raise ValueError(f"costs: row {row} has {float(values[row])}; costs must be finite and not negative")
    return values


def labels_of(groups: Any) -> list[Any]:
    """Returns each row's label. Rows without one (`None` or NaN) are a group together."""
    refuse_masked(groups, "groups")
    if isinstance(groups, Tensor | np.ndarray) or hasattr(groups, "tolist"):
        groups = groups.tolist()  # NaN, and every element of a tensor, would be a label of its own
    return [plain_label(label) for label in groups]


def plain_label(label: Any) -> Any:
    """Returns a label as a value of Python; `None` for one that is missing.

    Raises:
        `ValueError`: If it cannot be a key of a dictionary.
    """
    if isinstance(label, Tensor | np.generic):
        label = label.item()
    # Missing values differ from themselves: NaN, NaT; pandas' NA is neither equal nor unequal.
    is_missing = label is None or type(label).__name__ == "NAType" or (isinstance(label, float) and label != label)
    if not is_missing and not isinstance(label, Hashable):
        raise ValueError(f"groups: {label!r:.40} cannot be a label; give strings or numbers")
    return None if is_missing or type(label).__name__ == "NaTType" else label


def group_sizes(groups: Any, shares: Shares, num_examples: int, num_rows: int) -> dict[str, Tensor]:
    """Returns each row's group number, and the least and the most picks of each group, as the search takes them.

    Args:
        groups (`Sequence`):
            Label of each row.
        shares (`float` or `Mapping`):
            The largest share of the picks for any group, or for some labels a pair (smallest, largest).
        num_examples (`int`):
            Number of picks.
        num_rows (`int`):
            N.

    Raises:
        `ValueError`: If there is not one label for each row, or the shares name no label or cannot be met.
    """
    labels = labels_of(groups)
    if len(labels) != num_rows:
        raise ValueError(f"groups must hold one label for each of the {num_rows} rows, got {len(labels)}")
    numbers = {label: number for number, label in enumerate(dict.fromkeys(labels))}
    member = torch.tensor([numbers[label] for label in labels])
    if isinstance(shares, int | float):
        pairs = dict.fromkeys(numbers, (0.0, float(shares)))
    else:
        pairs = {plain_label(label): pair for label, pair in shares.items()}
    least = torch.zeros(len(numbers), dtype=torch.int64)
    most = torch.full((len(numbers),), num_examples)
    for label, (low, high) in pairs.items():
        if label not in numbers:
            raise ValueError(f"group_shares: no row has the label {label!r}; labels are {list(numbers)[:10]}")
        if not 0 <= low <= high <= 1:
            raise ValueError(f"group_shares: {label!r} needs 0 <= smallest <= largest <= 1, got {(low, high)}")
        # Rounded towards what can be met: a share of 0.3 of 10 picks is 3 at least, and 3 at most.
        least[numbers[label]] = int(np.ceil(low * num_examples - 1e-9))
        most[numbers[label]] = int(np.floor(high * num_examples + 1e-9))
    available = torch.bincount(member, minlength=len(numbers))
    for label, number in numbers.items():
        if available[number] < least[number]:
            raise ValueError(
                f"group_shares: {label!r} has {available[number]} rows, fewer than the {least[number]} it should get"
            )
    if int(least.sum()) > num_examples:
        raise ValueError(f"group_shares: the smallest shares add up to {int(least.sum())} of {num_examples} picks")
    return {"groups": member, "min_counts": least, "max_counts": most}
