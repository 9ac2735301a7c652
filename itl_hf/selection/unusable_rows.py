"""Rows that cannot be picked because their features say nothing: which they are, and what is said of them.

The rows are found when the pool is read (`itl_hf.gp.unusable_rows`). They are never picked, and a warning, the record
and the diagnosis of the selection say which they are and why.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from itl_hf.gp.unusable_rows import UnusableRows

#: Row numbers of each kind that a record holds; it counts all of them.
LISTED_ROWS = 1000
#: Row numbers of each kind that a warning names.
NAMED_ROWS = 10
#: Reasons by kind, in words that follow a number of rows.
REASONS = {
    "zero": "have features that are all zeros (often a row without a completion, or an embedding that failed)",
    "not_finite": "have features that are NaN or infinite (often a model that overflows in float16)",
}


def describe_unusable(
    unusable: UnusableRows, numbers_of: Callable[[Sequence[int]], Sequence[int]] = lambda rows: rows
) -> dict[str, Any] | None:
    """Returns what a record says of unusable rows: for each kind their `count` and their `rows`; `None` without any.

    Args:
        unusable (`UnusableRows`):
            The rows, numbered as in the features.
        numbers_of (`Callable`, *optional*):
            Returns the numbers of such rows in the user's pool; the same when left out.

    Example:
        >>> describe_unusable(UnusableRows(zero=(3, 8)))
        {'zero': {'count': 2, 'rows': [3, 8]}}
    """
    kinds = {"zero": unusable.zero, "not_finite": unusable.not_finite}
    entries = {
        kind: {"count": len(rows), "rows": [int(row) for row in numbers_of(rows[:LISTED_ROWS])]}
        for kind, rows in kinds.items()
        if rows
    }
    return entries or None


def unusable_sentences(description: dict[str, Any] | None) -> list[str]:
    """Returns a sentence for each kind of rows in what `describe_unusable` returned.

    Example:
        >>> unusable_sentences({"not_finite": {"count": 1, "rows": [3]}})
        ['1 row(s) have features that are NaN or infinite (often a model that overflows in float16): row(s) 3.']
    """
    sentences = []
    for kind, entry in (description or {}).items():
        first_numbers = ", ".join(map(str, entry["rows"][:NAMED_ROWS]))
        rest = entry["count"] - min(len(entry["rows"]), NAMED_ROWS)
        more = f" and {rest} more" if rest > 0 else ""
        sentences.append(f"{entry['count']} row(s) {REASONS[kind]}: row(s) {first_numbers}{more}.")
    return sentences


def warn_of_unusable(description: dict[str, Any] | None) -> None:
    """Warns once about the rows of the pool that are never picked."""
    if description:
        warnings.warn(
            f"never picked: {' '.join(unusable_sentences(description))} The other rows are prepared without them.",
            stacklevel=4,
        )


def num_picks_left(num_examples: int, num_open: int, num_unusable: int, replace: bool) -> int:
    """Returns how many rows can be picked: `num_examples`, or fewer (with a warning) if unusable rows leave fewer.

    Args:
        num_examples (`int`):
            Rows that were asked for.
        num_open (`int`):
            Rows that may be picked, without the unusable ones.
        num_unusable (`int`):
            Rows that may not be picked because they are unusable.
        replace (`bool`):
            Whether a row may be picked again.

    Raises:
        `ValueError`: If no row is left.
    """
    if not num_open:
        raise ValueError(
            f"no row of the pool can be picked: {num_unusable} have features that are all zeros, NaN or infinite, and "
            "the others are excluded"
        )
    if replace or num_examples <= num_open:
        return num_examples
    warnings.warn(f"num_examples={num_examples}, but only {num_open} rows can be picked: those are all.", stacklevel=4)
    return num_open


def blank_targets(prepared_targets: Tensor, raw_targets: Tensor) -> Tensor:
    """Returns prepared targets, (m, d), in which those whose raw features are all zeros are zeros; warns about them.

    Such a target says nothing of the task; centred, it would ask for the opposite of the pool's mean.
    """
    is_zero = ~raw_targets.any(1)
    if not bool(is_zero.any()):
        return prepared_targets
    numbers = is_zero.nonzero()[:, 0].tolist()
    more = "" if len(numbers) <= NAMED_ROWS else " ..."
    warnings.warn(
        f"{len(numbers)} target(s) {REASONS['zero']}: target(s) {', '.join(map(str, numbers[:NAMED_ROWS]))}{more}. "
        "They are treated as average rows, about which there is nothing to learn: give them completions, or use "
        "gradients with labels='predicted'.",
        stacklevel=4,
    )
    return torch.where(is_zero[:, None].to(prepared_targets.device), 0.0, prepared_targets)
