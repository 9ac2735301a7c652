"""Keeps what was computed of the objects used last, by their identity: a selection has no hash."""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

Argument = TypeVar("Argument")
Result = TypeVar("Result")

#: A page shows at most three selections: the first one, one made again, and one to compare with.
KEPT = 4


def keep_recent(function: Callable[[Argument], Result]) -> Callable[[Argument], Result]:
    """Returns the function with the results for the last `KEPT` arguments kept.

    The arguments are kept with their results, so that no other object can get their identity meanwhile.
    """
    results: OrderedDict[int, tuple[Argument, Result]] = OrderedDict()

    @functools.wraps(function)
    def with_kept_results(argument: Argument) -> Result:
        kept = results.pop(id(argument), None) or (argument, function(argument))
        results[id(argument)] = kept
        while len(results) > KEPT:
            results.popitem(last=False)
        return kept[1]

    return with_kept_results
