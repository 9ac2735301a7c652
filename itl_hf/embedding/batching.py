"""Batches of rows of similar length under a token budget: little padding, and a memory peak known in advance."""

from __future__ import annotations

from collections.abc import Sequence


def token_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices of rows, grouped so that a padded batch stays within `batch_tokens`.

    Args:
        lengths (`Sequence[int]`):
            Tokens of each row.
        batch_tokens (`int`):
            Upper bound of rows x longest row in a batch. A single row longer than this gets a batch of its own.

    Returns:
        `list[list[int]]`: every index once, longest rows first, so that running out of memory shows at once; ties keep
        their order.

    Raises:
        ValueError: `batch_tokens` is below 1.

    Example:
        >>> token_batches([3, 9, 4], batch_tokens=10)
        [[1], [2, 0]]
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1, got {batch_tokens}.")
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        if room < 1:
            batches.append([])
            # The first row of a batch is its longest, so it alone decides how many rows fit.
            room = max(1, batch_tokens // max(1, lengths[index]))
        batches[-1].append(index)
        room -= 1
    return batches
