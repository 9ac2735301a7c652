"""Counts the rows of the pool by group, such as their source."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from datasets import Value

if TYPE_CHECKING:
    from datasets import Dataset

#: Names of columns that usually hold groups, in order of preference.
GROUP_COLUMNS = ("task", "source", "dataset", "category", "domain", "subset", "topic")
#: Most groups that are counted separately; a column with many more values does not hold groups.
MOST_GROUPS = 200
_READ_ROWS = 65_536


def group_column(columns: Sequence[str], preferred_column: str | None = None) -> str | None:
    """Returns the column that holds the groups: the preferred one if it exists, else the first of `GROUP_COLUMNS`."""
    return next((name for name in (preferred_column, *GROUP_COLUMNS) if name is not None and name in columns), None)


def pool_groups(pool: Dataset, preferred_column: str | None = None) -> dict[str, Any] | None:
    """Counts the rows of each group, as JSON types; `None` for a pool without a column of groups.

    Args:
        pool (`Dataset`):
            The rows.
        preferred_column (`str`, *optional*):
            The column that was named in the constraints (`groups=`), if any.

    Returns:
        `dict`: `column`; `rows`, from each group's name to its count, the largest first, at most `MOST_GROUPS`; and
            `others`, the rows of all other groups.
    """
    column = group_column(pool.column_names, preferred_column)
    if column is None or not isinstance(pool.features[column], Value):
        return None
    counts: Counter[str] = Counter()
    rows = pool.select_columns([column]).with_format(None)
    for start in range(0, len(pool), _READ_ROWS):
        counts.update(map(str, rows[start : start + _READ_ROWS][column]))
    largest = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_GROUPS])
    return {"column": column, "rows": largest, "others": len(pool) - sum(largest.values())}
