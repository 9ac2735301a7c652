"""Batches of rows of similar length under a token budget: little padding, and a memory peak known in advance."""

from __future__ import annotations

from collections.abc import Sequence


def token_batches(lengths: Sequence[int], batch_tokens: int) -> list[list[int]]:
    """Indices of rows, grouped so that a padded batch stays within `batch_tokens` and wastes little of it.

    Args:
        lengths (`Sequence[int]`):
            Tokens of each row.
        batch_tokens (`int`):
            Upper bound of rows x longest row in a batch. A single row longer than this gets a batch of its own. A batch
            also ends where padding would exceed both 1/64 of this and 1/20 of its real tokens.

    Returns:
        `list[list[int]]`: every index once, longest rows first, so that running out of memory shows at once; ties keep
        their order.

    Raises:
        ValueError: `batch_tokens` is below 1.

    Example:
        >>> token_batches([30, 90, 40], batch_tokens=320)
        [[1], [2, 0]]
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1, got {batch_tokens}.")
    batches: list[list[int]] = []
    longest = real = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        padded = longest * (len(batches[-1]) + 1) if batches else 0
        padding = padded - real - length
        # Starting a batch costs about as much as a hundred padded tokens (kernel launches), hence the first allowance.
        if not batches or padded > batch_tokens or padding > max(batch_tokens // 64, (real + length) // 20):
            batches.append([])
            longest, real = length, 0
        batches[-1].append(index)
        real += length
    return batches
