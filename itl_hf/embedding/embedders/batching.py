"""Groups rows of similar length into batches under a token budget.

Batches then hold little padding, and the peak of memory is reached at the first one.
"""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeVar

import torch

logger = logging.getLogger(__name__)
Result = TypeVar("Result")
#: Which rows a batch may hold: any, those of one length, or one.
Grouping = Literal["padded", "equal lengths", "single rows"]


def token_batches(lengths: Sequence[int], batch_tokens: int, grouping: Grouping = "padded") -> list[list[int]]:
    """Groups rows into batches that, padded, stay within `batch_tokens` and waste little of it.

    Args:
        lengths (`Sequence[int]`):
            Tokens of each row.
        batch_tokens (`int`):
            Upper bound of rows x longest row in a batch. A single row longer than this gets a batch of its own. A batch
            also ends where padding would exceed both 1/64 of this and 1/20 of its tokens without padding.
        grouping (`"padded"`, `"equal lengths"` or `"single rows"`, *optional*, defaults to `"padded"`):
            Which rows a batch may hold: any, those of one length, or one.

    Returns:
        `list[list[int]]`: Indices of the rows of each batch. Every index occurs once, longest rows first, so that a
        lack of memory shows at the first batch; ties keep their order.

    Raises:
        `ValueError`: If `batch_tokens` is below 1.

    Example:
        >>> token_batches([30, 90, 32], batch_tokens=320)
        [[1], [2, 0]]
    """
    if batch_tokens < 1:
        raise ValueError(f"batch_tokens must be at least 1, got {batch_tokens}.")
    batches: list[list[int]] = []
    longest = num_tokens = 0
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        length = lengths[index]
        padded = longest * (len(batches[-1]) + 1) if batches else 0
        padding = padded - num_tokens - length
        # Starting a batch costs about as much as a hundred padded tokens (kernel launches), hence the first allowance.
        wasteful = padding > max(batch_tokens // 64, (num_tokens + length) // 20)
        apart = grouping == "single rows" or (grouping == "equal lengths" and length != longest)
        if not batches or padded > batch_tokens or wasteful or apart:
            batches.append([])
            longest, num_tokens = length, 0
        batches[-1].append(index)
        num_tokens += length
    return batches


class TokenBatches:
    """Runs batches under a token budget, which is halved each time memory runs out.

    Args:
        batch_tokens (`int`):
            Most tokens in a batch, padding included.

    Attributes:
        grouping (`str`, *optional*):
            Which rows a batch may hold (`Grouping`); any until it is chosen (`batch_effects.choose_grouping`).

    Raises:
        `ValueError`: If `batch_tokens` is below 1.
    """

    def __init__(self, batch_tokens: int) -> None:
        token_batches([], batch_tokens)  # raises early
        self.batch_tokens = batch_tokens
        self.grouping: Grouping | None = None

    def run(
        self,
        lengths: Sequence[int],
        call: Callable[[list[int]], Result],
        on_rows: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[list[int], Result]]:
        """Calls `call` with the indices of each batch, longest rows first; yields the indices and the result.

        Args:
            lengths (`Sequence[int]`):
                Tokens of each row.
            call (`Callable[[list[int]], Result]`):
                Runs the model on the rows of these indices.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with the number of rows of each batch after the caller has processed its result.

        Raises:
            `torch.OutOfMemoryError`: If memory does not hold even one row.
        """
        batches = token_batches(lengths, self.batch_tokens, self.grouping or "padded")
        while batches:
            batch = batches.pop(0)
            try:
                result = call(batch)
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error) or len(batch) == 1:
                    raise
            else:
                yield batch, result
                if on_rows is not None:
                    on_rows(len(batch))
                continue
            # Outside the handler, where the traceback no longer keeps the batch's tensors alive.
            _free_memory()
            # The budget stays lowered: the next batch of this size would not fit either.
            self.batch_tokens = max(1, len(batch) * max(lengths[i] for i in batch) // 2)
            logger.warning("Out of memory; going on with at most %d tokens in a batch.", self.batch_tokens)
            rest = sorted(index for other in (batch, *batches) for index in other)
            smaller_batches = token_batches([lengths[i] for i in rest], self.batch_tokens, self.grouping or "padded")
            batches = [[rest[i] for i in other] for other in smaller_batches]


def _free_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _is_out_of_memory(error: BaseException) -> bool:
    # The CPU allocator raises a plain RuntimeError.
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
