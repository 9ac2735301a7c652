"""Compares two selections: which rows are in both, and which are in only one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.report.explorer.row_table import group_column
from itl_hf.report.explorer.row_text import text_of

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Layout, Selection


@dataclass(frozen=True)
class Comparison:
    """Which picks two selections share. Picks are given by their rank, counted from 0.

    Args:
        both (`list[tuple[int, int]]`):
            For each row in both selections: its rank in the first and its rank in the second one, in the order of the
            first.
        only_first (`list[int]`):
            Ranks of the first selection's picks that are not in the second.
        only_second (`list[int]`):
            Ranks of the second selection's picks that are not in the first.
        by_text (`bool`):
            Whether rows were matched by their text, because the two pools differ.
    """

    both: list[tuple[int, int]]
    only_first: list[int]
    only_second: list[int]
    by_text: bool

    @property
    def overlap(self) -> float:
        """Rows in both selections as a share of the rows in at least one (Jaccard index), from 0 to 1."""
        union = len(self.both) + len(self.only_first) + len(self.only_second)
        return len(self.both) / union if union else 1.0


def compare(first: Selection, second: Selection) -> Comparison:
    """Matches the picks of two selections by row number, or by text if the pools differ.

    Args:
        first (`Selection`):
            The first selection.
        second (`Selection`):
            The second selection.

    Returns:
        `Comparison`: The ranks of the picks in both selections and in only one of them.
    """
    by_text = not same_pool(first, second)
    # Ranks of the second selection that have no partner yet, by row.
    unmatched_ranks: dict[Hashable, list[int]] = {}
    for rank, key in enumerate(_row_keys(second, by_text)):
        unmatched_ranks.setdefault(key, []).append(rank)
    both, only_first = [], []
    for rank, key in enumerate(_row_keys(first, by_text)):
        matches = unmatched_ranks.get(key)
        if matches:
            both.append((rank, matches.pop(0)))
        else:
            only_first.append(rank)
    return Comparison(both, only_first, sorted(rank for ranks in unmatched_ranks.values() for rank in ranks), by_text)


def same_pool(first: Selection, second: Selection) -> bool:
    """Whether both selections were made from the same pool, so that equal row numbers mean equal rows."""
    hashes = [selection.record.pool_fingerprint for selection in (first, second)]
    return hashes[0] == hashes[1] and first.pool_size == second.pool_size


def source_counts(first: Selection, second: Selection) -> list[tuple[str, int, int]]:
    """Number of picks per source (dataset, task, ...) in each selection.

    Returns:
        `list[tuple[str, int, int]]`: Name of the source and its counts in the first and the second selection, the most
        frequent source first. Empty if no column names the source of a row.
    """
    column = group_column(first)
    if column is None or column not in second.dataset.column_names:
        return []
    first_counts, second_counts = (
        Counter(str(value) for value in selection.dataset[column]) for selection in (first, second)
    )
    names = sorted(first_counts | second_counts, key=lambda name: (-first_counts[name] - second_counts[name], name))
    return [(name, first_counts[name], second_counts[name]) for name in names]


def second_picks_on_map(layout: Layout, first: Selection, second: Selection, comparison: Comparison) -> np.ndarray:
    """Coordinates of the second selection's picks on the first selection's map, (n, 2); NaN where they are unknown."""
    coordinates = np.full((len(second), 2), np.nan, dtype=np.float32)
    for first_rank, second_rank in comparison.both:
        coordinates[second_rank] = first.layout.picks[first_rank]
    if comparison.by_text:
        return coordinates
    if _same_axes(first, second):
        return second.layout.picks
    positions = np.searchsorted(layout.pool_rows, second.indices).clip(max=len(layout.pool_rows) - 1)
    is_on_map = layout.pool_rows[positions] == second.indices
    coordinates[is_on_map] = layout.pool[positions[is_on_map]]
    return coordinates


def _same_axes(first: Selection, second: Selection) -> bool:
    """Whether both maps have the same axes: principal axes depend on the pool's standardized features alone."""
    if {first.layout.method, second.layout.method} != {"pca"}:
        return False
    return all(
        getattr(first.record, name) == getattr(second.record, name) for name in ("embedder", "standardization_name")
    )


def _row_keys(selection: Selection, by_text: bool) -> list[Hashable]:
    return [text_of(row) for row in selection.dataset] if by_text else selection.indices.tolist()
