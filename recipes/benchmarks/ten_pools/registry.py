"""The pools by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from recipes.benchmarks.ten_pools.bigbench_pools import bigbench_pool
from recipes.benchmarks.ten_pools.conversations import assistant_pool, small_talk_pool
from recipes.benchmarks.ten_pools.functions import function_pool
from recipes.benchmarks.ten_pools.generated import generated_pool
from recipes.benchmarks.ten_pools.languages import language_pool
from recipes.benchmarks.ten_pools.pool import Pool
from recipes.benchmarks.ten_pools.words import word_pool

BIGBENCH_POOLS = ("bigbench", "bigbench-copies", "bigbench-few", "bigbench-relatives", "bigbench-noise")

POOLS: Mapping[str, Callable[[], Pool]] = {
    **{name: bigbench_pool(name) for name in BIGBENCH_POOLS},
    "generated": generated_pool,
    "words": word_pool,
    "languages": language_pool,
    "functions": function_pool,
    "small-talk": small_talk_pool,
    "assistant": assistant_pool,
}


def load_pool(name: str) -> Pool:
    """Returns the pool of this name.

    Raises:
        `ValueError`: If there is none.
    """
    if name not in POOLS:
        raise ValueError(f"no pool {name!r}; known: {', '.join(POOLS)}")
    return POOLS[name]()
