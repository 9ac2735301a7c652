"""Nearest rows of each target from an index: which rows is approximate, their order is exact."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.pool import Pool
from itl_hf.gp.standardization import Standardization
from itl_hf.selection.baselines.ranking import ANCHORS_AT_ONCE, unit, without_rounding
from itl_hf.selection.shortlist.index_file import IndexFacts, find_index, import_faiss, open_index


class IndexedRows:
    """Finds rows by an index and orders them by their cosines in float64, as `NearestRows` does.

    The first process searches and sends what it finds to the others.

    Args:
        path (`Path`):
            The file of the index.
        facts (`IndexFacts`):
            What it was made from.

    Raises:
        `ValueError`: If the file is damaged.
    """

    def __init__(self, path: Path, facts: IndexFacts) -> None:
        self.facts = facts
        error: ValueError | None = None
        self._index: Any = None
        try:
            if distributed.rank() == 0:
                self._index = open_index(path, facts)
        except ValueError as damage:
            error = damage
        distributed.raise_on_all(error)

    def lists(self, pool: Pool, targets: Tensor, is_open: Tensor, depth: int) -> list[list[int]]:
        """Returns about `depth` nearest open rows of each target, best first; fewer where the index finds no more.

        Args:
            pool (`Pool`):
                The rows.
            targets (`Tensor`):
                (m, d) prepared targets.
            is_open (`Tensor`):
                (N,) bool, rows that may be found.
            depth (`int`):
                Rows for each target.
        """
        found_rows = self._search(unit(targets), is_open, min(depth, int(is_open.sum())))  # (m, depth)
        lists: list[list[int]] = []
        for start in range(0, len(targets), ANCHORS_AT_ONCE):
            part = slice(start, start + ANCHORS_AT_ONCE)
            lists += _order(pool, targets[part], found_rows[part])
        return lists

    def _search(self, targets: Tensor, is_open: Tensor, count: int) -> Tensor:
        """Returns row numbers, (m, count) int64; -1 where the searched lists hold no further open row."""
        found_rows = torch.full((len(targets), count), -1, dtype=torch.int64)
        if self._index is not None:
            faiss = import_faiss()
            selector = faiss.IDSelectorBitmap(np.packbits(is_open.numpy(), bitorder="little"))
            if self.facts.num_lists:
                options = faiss.SearchParametersIVF(sel=selector, nprobe=self.facts.num_lists)
            else:
                options = faiss.SearchParameters(sel=selector)
            _, rows = self._index.search(targets.float().cpu().numpy(), count, params=options)
            found_rows = torch.from_numpy(rows)
        return distributed.broadcast_from_first(found_rows)


def indexed_rows(features: Any, standardization: Standardization | None) -> IndexedRows | None:
    """Opens the index beside features of a store; `None` if there is none for this preparation.

    Raises:
        `ValueError`: If the index belongs to other features, or is damaged.
    """
    index = find_index(features, standardization)
    return None if index is None else IndexedRows(*index)


def _order(pool: Pool, targets: Tensor, found_rows: Tensor) -> list[list[int]]:
    """Orders each target's rows by their exact cosines, ties by row number, (c, d), (c, count) -> c lists."""
    numbers = torch.unique(found_rows[found_rows >= 0])  # ascending
    similarity = without_rounding(unit(targets) @ unit(pool.rows(numbers.tolist())).T).cpu()  # (c, U)
    lists = []
    for row, values in zip(found_rows, similarity, strict=True):
        own_rows = row[row >= 0].sort().values
        order = values[torch.searchsorted(numbers, own_rows)].sort(descending=True, stable=True).indices
        lists.append(own_rows[order].tolist())
    return lists
