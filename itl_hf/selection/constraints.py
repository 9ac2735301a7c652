"""What a selection must keep to: rows that may not be picked, budgets, group shares, and when to stop.

`SelectionConstraints` is what users give, in Python, on the command line and in a record. `resolve` turns names of
columns and texts into numbers, and `availability` turns those into the object that the search keeps up to date.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from itl_hf.embedding.reading import RowReading
from itl_hf.embedding.row_reading import read_dataset
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.selection.allowed_rows import check_allows_a_row
from itl_hf.selection.costs_and_groups import Shares, check_costs, group_sizes, plain_label
from itl_hf.selection.feature_arrays import check_row_numbers
from itl_hf.selection.option_types import check_constraint_types, plain_number
from itl_hf.selection.stop_when import StopWhen
from itl_hf.text import ColumnMapping, Row, TextRows, as_dataset


@dataclass(frozen=True)
class SelectionConstraints:
    """What the picks must keep to.

    Args:
        replace (`bool`, *optional*, defaults to `False`):
            Whether a row may be picked again.
        exclude (`Sequence[int]`, `Dataset`, `list[dict]` or `list[str]`, *optional*):
            Rows that must never be picked: row numbers of the pool, or a dataset; then every row of the pool whose
            prompt equals a prompt of that dataset is excluded (letter case and white space aside). `select_rows` has no
            texts and takes row numbers only.
        costs (`str` or `Sequence[float]`, *optional*):
            What each row costs: the name of a column of the pool, or N numbers. Left out beside a `token_budget`,
            `Selector` counts the row's tokens, completion included, with the embedder's tokenizer.
        token_budget (`float`, *optional*):
            What all picks may cost together. A row that no longer fits is skipped; among those that fit the objective
            decides. (Gain per token would fill the budget with the shortest rows.)
        groups (`str` or `Sequence`, *optional*):
            Each row's group, such as its source: the name of a column of the pool, or N labels. Rows without a label
            (`None` or NaN) are one group, whose label is `None`.
        group_shares (`float` or `Mapping`, *optional*):
            The largest share of `num_examples` for any group, or for some labels a pair (smallest, largest).
        stop_when (`StopWhen`, *optional*):
            Stop earlier, when a pick's gain or the variance that is left is small.

    Example:
        >>> from itl_hf import SelectionConstraints, select_rows
        >>> rows = [[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]
        >>> select_rows(rows, [[1.0, 0.0]], 1, constraints=SelectionConstraints(exclude=[0])).indices
        array([1])
    """

    replace: bool = False
    exclude: Sequence[int] | Sequence[Row] | Sequence[str] | np.ndarray | Dataset = ()
    costs: str | Sequence[float] | np.ndarray | None = None
    token_budget: float | None = None
    groups: str | Sequence[Any] | np.ndarray | None = None
    group_shares: Shares | None = None
    stop_when: StopWhen | None = None

    def __post_init__(self) -> None:
        for name in ("token_budget", "group_shares"):
            object.__setattr__(self, name, plain_number(getattr(self, name)))
        check_constraint_types(self.replace, self.token_budget, self.group_shares, self.stop_when)

    @property
    def counts_tokens(self) -> bool:
        """Whether tokens have to be counted because a budget came without costs."""
        return self.token_budget is not None and self.costs is None

    @property
    def excludes_texts(self) -> bool:
        """Whether `exclude` holds texts, not row numbers."""
        is_list = isinstance(self.exclude, list | tuple) and len(self.exclude) > 0
        return isinstance(self.exclude, Dataset) or (is_list and isinstance(self.exclude[0], str | Mapping))

    @property
    def can_extend(self) -> bool:
        """Whether a selection under these constraints can be continued with further picks."""
        return all(value is None for value in (self.token_budget, self.group_shares, self.stop_when))

    def resolve(
        self, pool: Dataset, reading: RowReading | None = None, columns: ColumnMapping | None = None
    ) -> SelectionConstraints:
        """The same constraints with numbers and labels in place of column names and texts.

        Args:
            pool (`Dataset`):
                Where columns are looked up.
            reading (`RowReading`, *optional*):
                What the one pass over the pool's text found; needed to count tokens and to compare texts.
            columns (`ColumnMapping`, *optional*):
                Which column of the texts to exclude holds which part of a row, if they have these columns.

        Raises:
            `ValueError`: If the pool has no such column.
        """
        costs, exclude = _column(pool, self.costs, "costs"), self.exclude
        if reading is not None and self.counts_tokens:
            costs = reading.num_tokens
        if reading is not None and self.excludes_texts:
            exclude = reading.rows_with_prompts(_prompt_keys(exclude, columns))
        return dataclasses.replace(self, costs=costs, groups=_column(pool, self.groups, "groups"), exclude=exclude)

    def excluded_rows(self, num_rows: int) -> list[int]:
        """Row numbers in `exclude`, ascending, each once.

        Raises:
            `ValueError`: If one is not a row number of the pool.
            `TypeError`: If `exclude` holds texts, which only `Selector` can compare.
        """
        if self.excludes_texts:
            raise TypeError("exclude: select_rows knows no texts, so give row numbers; Selector also takes a dataset")
        return sorted(set(check_row_numbers(self.exclude, num_rows, "exclude")))

    def blocked_rows(self, num_rows: int, observed_rows: Sequence[int]) -> list[int]:
        """Row numbers that may not be picked, ascending.

        These are the rows in `exclude` and, unless rows may be picked again, the observed ones.

        Raises:
            `ValueError`: If a number in `exclude` is not a row number of the pool.
            `TypeError`: If `exclude` holds texts, which only `Selector` can compare.
        """
        return sorted({*self.excluded_rows(num_rows), *(() if self.replace else observed_rows)})

    def pool_numbers(self, rows: Sequence[int]) -> Sequence[int]:
        """Row numbers of the user's pool for rows that are numbered as in the features: the same."""
        return rows

    def availability(self, num_examples: int, num_rows: int) -> AvailabilityTracker:
        """The search's view of budget and group shares; `costs` and `groups` must be numbers and labels by now.

        Args:
            num_examples (`int`):
                Picks to make at most.
            num_rows (`int`):
                N.

        Raises:
            `ValueError`: If one of a pair is missing, lengths differ, costs are negative, labels do not occur, shares
                cannot be met, or budget or shares allow no row.
        """
        if (self.costs is None) != (self.token_budget is None) or (self.groups is None) != (self.group_shares is None):
            raise ValueError("give costs together with token_budget, and groups together with group_shares")
        options: dict[str, Any] = {}
        if self.costs is not None and self.token_budget is not None:
            if not self.token_budget > 0:
                raise ValueError(f"token_budget must be positive, got {self.token_budget}")
            options |= {"costs": check_costs(self.costs, num_rows), "budget": float(self.token_budget)}
        if self.groups is not None and self.group_shares is not None:
            options |= group_sizes(self.groups, self.group_shares, num_examples, num_rows)
        tracker = AvailabilityTracker(num_examples, **options)
        check_allows_a_row(tracker, () if self.excludes_texts else self.excluded_rows(num_rows), num_rows)
        return tracker

    def to_json(self, resolved_constraints: SelectionConstraints | None = None) -> dict[str, Any]:
        """JSON types, without what was left out.

        Costs and labels that were given as values are not repeated: their entry is `None`. Excluded rows are written as
        row numbers.

        Args:
            resolved_constraints (`SelectionConstraints`, *optional*):
                What `resolve` returned, for the row numbers of excluded texts.
        """
        shares = self.group_shares
        entries = {
            "replace": self.replace,
            "exclude": np.asarray((resolved_constraints or self).exclude, dtype=np.int64).tolist(),
            "costs": self.costs if isinstance(self.costs, str) else None,
            "token_budget": self.token_budget,
            "groups": self.groups if isinstance(self.groups, str) else None,
            # As pairs: the keys of a JSON object are strings, and labels may be numbers.
            "group_shares": [[plain_label(k), *map(plain_number, pair)] for k, pair in shares.items()]
            if isinstance(shares, Mapping)
            else shares,
            "stop_when": None if self.stop_when is None else dataclasses.asdict(self.stop_when),
        }
        # An entry of `None` says that there were costs or groups, given as values.
        always = {name for name in ("costs", "groups") if getattr(self, name) is not None}
        return {name: value for name, value in entries.items() if name in always or value not in (None, False, [])}

    @classmethod
    def from_json(cls, entries: Mapping[str, Any]) -> SelectionConstraints:
        """Reads what `to_json` wrote.

        Raises:
            `ValueError`: If costs or groups were given as values, which the entries do not hold, or the excluded rows
                were not published.
        """
        options = dict(entries)
        if any(name in options and options[name] is None for name in ("costs", "groups")):
            raise ValueError("its costs or groups were given as numbers, which the record does not hold")
        if options.get("exclude", ()) is None:
            raise ValueError("its excluded rows were not published with the target prompts")
        if isinstance(options.get("group_shares"), list):
            options["group_shares"] = {label: (low, high) for label, low, high in options["group_shares"]}
        if "stop_when" in options:
            options["stop_when"] = StopWhen(**options["stop_when"])
        return cls(**options)


def _prompt_keys(texts: Any, columns: ColumnMapping | None) -> np.ndarray:
    """Keys of the prompts of the rows to exclude."""
    rows = as_dataset(texts, "exclude")
    try:
        return read_dataset(TextRows(rows, columns, "exclude")).prompt_keys
    except ValueError as error:
        raise ValueError(f"exclude: {error}") from error


def _column(pool: Dataset, values: Any, name: str) -> Any:
    """The values of a column of the pool where a name was given, else the values themselves."""
    if not isinstance(values, str):
        return values
    if values not in pool.column_names:
        raise ValueError(f"{name}: the pool has no column {values!r}; its columns are {pool.column_names}")
    return pool[values][:]
