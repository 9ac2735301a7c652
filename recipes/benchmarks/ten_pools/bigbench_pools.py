"""The pools of BIG-bench: the variants of the fine-tuning benchmark, with target sets that are drawn from its tasks.

Rows, targets and held-out rows are those of that benchmark, and so are their features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from recipes.benchmarks.bigbench import bigbench_rows
from recipes.benchmarks.fine_tuning.rows import DEVELOPMENT_SETS, TEST_SETS, BenchmarkRows, Sizes
from recipes.benchmarks.fine_tuning.variants import FEW, wrong_answers
from recipes.benchmarks.ten_pools.pool import Part, Pool

#: Beginning of the names of parts whose features the fine-tuning benchmark computes too.
BIGBENCH_FOLDER = "bigbench/"


@cache
def _rows() -> BenchmarkRows:
    sizes = Sizes()
    return BenchmarkRows(bigbench_rows(sizes.rows_per_task), {**DEVELOPMENT_SETS, **TEST_SETS}, sizes)


def bigbench_pool(name: str) -> Callable[[], Pool]:
    """Returns the function that makes the pool of this name.

    Args:
        name (`str`):
            `"bigbench"`: as it is; `"bigbench-copies"`: some rows repeated 5 to 20 times with small edits;
            `"bigbench-few"`: at most 20 rows of each target task; `"bigbench-relatives"`: none, only other tasks;
            `"bigbench-noise"`: a fifth of the answers are another row's, and rows of shuffled words are added.
    """

    def make() -> Pool:
        rows = _rows()
        parts = [Part(f"{BIGBENCH_FOLDER}pool", rows.pool)]
        if name == "bigbench-copies":
            parts.append(Part(f"{BIGBENCH_FOLDER}copies", rows.copies))
        if name == "bigbench-noise":
            parts.append(Part(f"{BIGBENCH_FOLDER}garbage", rows.garbage))
        return Pool(
            name,
            parts,
            Part(f"{BIGBENCH_FOLDER}bank", rows.bank),
            {
                half: [task for tasks in sets.values() for task in tasks]
                for half, sets in (("development", DEVELOPMENT_SETS), ("test", TEST_SETS))
            },
            separate_held_out=rows.held_out,
            originals=rows.originals[: len(rows.pool) + len(rows.copies)] if name == "bigbench-copies" else None,
            completions=wrong_answers(rows) if name == "bigbench-noise" else {},
            garbage=frozenset({"garbage"}),
            most_per_task={"bigbench-few": FEW, "bigbench-relatives": 0}.get(name),
            # No task of a set has rows in the pool of relatives, so labels do not say which picks help.
            labelled=name != "bigbench-relatives",
        )

    return make
