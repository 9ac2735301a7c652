"""The pool of generated tasks: reasoning-gym and everyday conversations, as in the development benchmark."""

from __future__ import annotations

from collections.abc import Sequence

from datasets import Dataset

from recipes.benchmarks.pools import TARGET_SETS, Texts
from recipes.benchmarks.ten_pools.pool import Part, Pool, split_halves
from recipes.benchmarks.ten_pools.rows import Row, plain_row
from recipes.offline import REASONING_TASKS, reasoning_rows

BANK_PER_TASK = 64
_BANK_SEED = 4_000_037
#: Tasks that kernel, noise and layer were chosen on.
DEVELOPMENT_TASKS = frozenset(task for shares in TARGET_SETS.values() for task in shares)


def generated_pool() -> Pool:
    """Returns 3,057 rows of 69 tasks, with targets of the 55 tasks that are generated."""
    texts = Texts()
    rows = [plain_row(row) for row in texts.pool]
    tasks = list(REASONING_TASKS)
    return Pool(
        "generated",
        [Part("generated/pool", Dataset.from_list(rows))],
        Part("generated/bank", Dataset.from_list(bank_rows(texts))),
        split_halves("generated", tasks, sorted(DEVELOPMENT_TASKS)),
    )


def bank_rows(texts: Texts, tasks: Sequence[str] = tuple(REASONING_TASKS)) -> list[Row]:
    """Returns labelled rows of these tasks whose prompts do not occur in the pool."""
    pool_prompts = {messages[0]["content"] for messages in texts.pool["prompt"]}
    return [
        plain_row(row) for row in reasoning_rows(dict.fromkeys(tasks, BANK_PER_TASK), _BANK_SEED, exclude=pool_prompts)
    ]
