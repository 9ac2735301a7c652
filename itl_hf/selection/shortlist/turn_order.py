"""The order in which targets take turns."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence


def turn_order(num_targets: int, weights: Sequence[float] | None = None) -> Iterator[int]:
    """Yields the number of the target whose turn is next, without end.

    Target a's k-th turn (from 1) comes at the time k / w_a, so that targets get turns in proportion to their weights;
    ties go to the lowest number. With equal weights the targets follow each other in their order.

    Args:
        num_targets (`int`):
            m.
        weights (`Sequence[float]`, *optional*):
            (m,) positive weights of the targets; all equal when left out.

    Example:
        >>> import itertools
        >>> list(itertools.islice(turn_order(3), 5)), list(itertools.islice(turn_order(2, [1.0, 2.0]), 6))
        ([0, 1, 2, 0, 1], [1, 0, 1, 1, 0, 1])
    """
    shares = [1.0] * num_targets if weights is None else [float(weight) for weight in weights]
    next_turns = [(1 / share, target, 1) for target, share in enumerate(shares)]
    heapq.heapify(next_turns)
    while next_turns:
        _, target, count = next_turns[0]
        yield target
        heapq.heapreplace(next_turns, ((count + 1) / shares[target], target, count + 1))
