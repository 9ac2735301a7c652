"""Batches of rows of similar length under a token budget: little padding, and a memory peak known in advance."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

import torch

logger = logging.getLogger(__name__)
Result = TypeVar("Result")


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
        `ValueError`: `batch_tokens` is below 1.

    Example:
        >>> token_batches([30, 90, 32], batch_tokens=320)
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


class TokenBatches:
    """Runs batches under a token budget, and with half of the budget where memory runs out.

    Args:
        batch_tokens (`int`):
            Most tokens in a batch, padding included.

    Raises:
        `ValueError`: `batch_tokens` is below 1.
    """

    def __init__(self, batch_tokens: int) -> None:
        token_batches([], batch_tokens)  # raises early
        self.batch_tokens = batch_tokens

    def run(self, lengths: Sequence[int], call: Callable[[list[int]], Result]) -> Iterator[tuple[list[int], Result]]:
        """`call` with the indices of each batch, longest rows first; yields the indices and what it returned.

        Raises:
            `torch.OutOfMemoryError`: Memory does not hold even one row.
        """
        waiting = token_batches(lengths, self.batch_tokens)
        while waiting:
            batch = waiting.pop(0)
            result = self._try(call, batch)
            if result is None:
                # The budget stays lowered: the next batch of this size would not fit either.
                self.batch_tokens = max(1, len(batch) * max(lengths[i] for i in batch) // 2)
                logger.warning("Out of memory; going on with at most %d tokens in a batch.", self.batch_tokens)
                left = sorted(index for other in (batch, *waiting) for index in other)
                again = token_batches([lengths[i] for i in left], self.batch_tokens)
                waiting = [[left[i] for i in other] for other in again]
                continue
            yield batch, result[0]

    @staticmethod
    def _try(call: Callable[[list[int]], Result], batch: list[int]) -> tuple[Result] | None:
        try:
            return (call(batch),)
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            if not _out_of_memory(error) or len(batch) == 1:
                raise
        # Outside the handler, where the traceback no longer keeps the batch's tensors alive.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None


def _out_of_memory(error: BaseException) -> bool:
    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
