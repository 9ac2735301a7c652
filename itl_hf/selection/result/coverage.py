"""Which column says where a row comes from, and how the pool is made up by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from datasets import Value

if TYPE_CHECKING:
    from datasets import Dataset

#: In the order in which they are looked for.
GROUP_COLUMNS = ("task", "source", "dataset", "category", "domain", "subset", "topic")
#: Groups of the pool that are counted one by one; a column with many more values is no column of groups.
MOST_GROUPS = 200
_READ_ROWS = 65_536


def group_column(columns: Sequence[str], preferred: str | None = None) -> str | None:
    """The column of groups: the preferred one if it is there, else the first of `GROUP_COLUMNS`."""
    return next((name for name in (preferred, *GROUP_COLUMNS) if name is not None and name in columns), None)


def pool_groups(pool: Dataset, preferred: str | None = None) -> dict[str, Any] | None:
    """How many rows of the pool each group has, as JSON types; `None` for a pool without such a column.

    Args:
        pool (`Dataset`):
            The rows.
        preferred (`str`, *optional*):
            The column, where one was named (`groups=`).

    Returns:
        `dict`: `column`; `rows`, from each group's name to its count, the largest first, at most `MOST_GROUPS`; and
            `others`, the rows of all other groups.
    """
    column = group_column(pool.column_names, preferred)
    if column is None or not isinstance(pool.features[column], Value):
        return None
    counts: Counter[str] = Counter()
    rows = pool.select_columns([column]).with_format(None)
    for start in range(0, len(pool), _READ_ROWS):
        counts.update(map(str, rows[start : start + _READ_ROWS][column]))
    largest = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_GROUPS])
    return {"column": column, "rows": largest, "others": len(pool) - sum(largest.values())}
