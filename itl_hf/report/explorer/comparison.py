"""Two selections side by side: what both have, and what one has that the other lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from itl_hf.report.explorer.row_table import group_column, text_of

if TYPE_CHECKING:
    from itl_hf.selection.result.selection import Layout, Selection


@dataclass(frozen=True)
class Comparison:
    """Places in the order of picks, from 0.

    Args:
        both (`list[tuple[int, int]]`):
            The same row in the first and in the second selection, in the first's order.
        only_first (`list[int]`):
            Rows that the second lacks.
        only_second (`list[int]`):
            Rows that the first lacks.
        by_text (`bool`):
            Whether rows were matched by their text, since the pools differ.
    """

    both: list[tuple[int, int]]
    only_first: list[int]
    only_second: list[int]
    by_text: bool

    @property
    def overlap(self) -> float:
        """Rows in both as a share of the rows in either (Jaccard), 0 to 1."""
        union = len(self.both) + len(self.only_first) + len(self.only_second)
        return len(self.both) / union if union else 1.0


def compare(first: Selection, second: Selection) -> Comparison:
    """Matches rows by their number in the pool, or by their text where the pools differ.

    Args:
        first (`Selection`):
            One.
        second (`Selection`):
            The other.
    """
    by_text = not same_pool(first, second)
    keys, others = _keys(first, by_text), _keys(second, by_text)
    places: dict[Hashable, list[int]] = {}
    for place, key in enumerate(others):
        places.setdefault(key, []).append(place)
    both, only_first = [], []
    for place, key in enumerate(keys):
        matches = places.get(key)
        if matches:
            both.append((place, matches.pop(0)))
        else:
            only_first.append(place)
    return Comparison(both, only_first, sorted(place for rest in places.values() for place in rest), by_text)


def same_pool(first: Selection, second: Selection) -> bool:
    """Whether row numbers mean the same rows in both."""
    hashes = [selection.record.pool_fingerprint for selection in (first, second)]
    return hashes[0] == hashes[1] and first.pool_size == second.pool_size


def counts(first: Selection, second: Selection) -> list[tuple[str, int, int]]:
    """Picks of each source in both, the most frequent first; empty where no column names a source."""
    column = group_column(first)
    if column is None or column not in second.dataset.column_names:
        return []
    tallies = [Counter(str(value) for value in one.dataset[column]) for one in (first, second)]
    names = sorted(tallies[0] | tallies[1], key=lambda name: (-tallies[0][name] - tallies[1][name], name))
    return [(name, tallies[0][name], tallies[1][name]) for name in names]


def places_on_map(layout: Layout, first: Selection, second: Selection, matched: Comparison) -> np.ndarray:
    """(n, 2) where the second selection's picks lie on the first one's map; NaN where that is not known."""
    found = np.full((len(second), 2), np.nan, dtype=np.float32)
    for here, there in matched.both:
        found[there] = first.layout.picks[here]
    if matched.by_text:
        return found
    if _same_axes(first, second):
        return second.layout.picks
    spots = np.searchsorted(layout.pool_rows, second.indices).clip(max=len(layout.pool_rows) - 1)
    drawn = layout.pool_rows[spots] == second.indices
    found[drawn] = layout.pool[spots[drawn]]
    return found


def _same_axes(first: Selection, second: Selection) -> bool:
    """Principal axes follow from the pool's prepared features alone."""
    if {first.layout.method, second.layout.method} != {"pca"}:
        return False
    return all(
        getattr(first.record, name) == getattr(second.record, name) for name in ("embedder", "standardization_name")
    )


def _keys(selection: Selection, by_text: bool) -> list[Hashable]:
    return [text_of(row) for row in selection.dataset] if by_text else selection.indices.tolist()
