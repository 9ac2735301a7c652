"""The pools by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recipes.benchmarks.ten_pools.functions import function_pool
from recipes.benchmarks.ten_pools.generated import generated_pool
from recipes.benchmarks.ten_pools.languages import language_pool
from recipes.benchmarks.ten_pools.pool import Pool

POOLS: Mapping[str, Callable[[], Pool]] = {
    "generated": generated_pool,
    "languages": language_pool,
    "functions": function_pool,
}


def load_pool(name: str) -> Pool:
    """Returns the pool of this name.

    Raises:
        `ValueError`: If there is none.
    """
    if name not in POOLS:
        raise ValueError(f"no pool {name!r}; known: {', '.join(POOLS)}")
    return POOLS[name]()
