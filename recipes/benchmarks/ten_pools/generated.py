"""The pool of generated tasks: reasoning-gym and everyday conversations, as in the development benchmark."""

from __future__ import annotations

from functools import cache

from datasets import Dataset

from recipes.benchmarks.pools import TARGET_SETS, Texts
from recipes.benchmarks.ten_pools.pool import Part, Pool, split_halves
from recipes.benchmarks.ten_pools.rows import CUE, Row, plain_row
from recipes.offline import REASONING_TASKS, reasoning_rows

BANK_PER_TASK = 64
_BANK_SEED = 4_000_037
#: Tasks that kernel, noise and layer were chosen on.
DEVELOPMENT_TASKS = frozenset(task for shares in TARGET_SETS.values() for task in shares)


def generated_pool() -> Pool:
    """Returns 3,057 rows of 69 tasks, with targets of the 55 tasks that are generated."""
    tasks = list(REASONING_TASKS)
    return Pool(
        "generated",
        [Part("generated/pool", Dataset.from_list(pool_rows()))],
        Part("generated/bank", Dataset.from_list(bank_rows())),
        split_halves("generated", tasks, sorted(DEVELOPMENT_TASKS)),
    )


@cache
def pool_rows() -> list[Row]:
    """Returns the rows of `recipes.benchmarks.pools.Texts` as strings."""
    return [plain_row(row) for row in Texts().pool]


@cache
def bank_rows() -> list[Row]:
    """Returns labelled rows of the generated tasks whose questions do not occur in the pool."""
    questions = {row["prompt"].removesuffix(CUE) for row in pool_rows()}
    counts = dict.fromkeys(REASONING_TASKS, BANK_PER_TASK)
    return [plain_row(row) for row in reasoning_rows(counts, _BANK_SEED, exclude=questions)]
