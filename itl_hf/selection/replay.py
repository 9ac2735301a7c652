"""Replay: rows of the pool's general part that are trained on behind the picks, against forgetting.

A model that is trained on rows about a few targets alone loses some of what it could do before. A small share of rows
that stand for the pool as a whole keeps that in training. The picks do not depend on it: replay rows are drawn after
them, from the rows that were not picked and may be picked.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import torch
from datasets import Dataset, concatenate_datasets

from itl_hf.search.availability import AvailabilityTracker
from itl_hf.selection.baselines.diverse import KMeans
from itl_hf.selection.protocol import SelectionRequest, check_choice, check_whole
from itl_hf.text.json_feature import as_stored
from itl_hf.text.trained_rows import with_read_columns

if TYPE_CHECKING:
    from itl_hf.selection.row_selection import RowSelection
    from itl_hf.text import ColumnMapping

#: Columns of picks that replay rows have nothing for.
_MEASURED_COLUMNS = ("itl_gain", "itl_nearest_target", "itl_similarity")
ReplayMethod = Literal["random", "k_means"]


@dataclass(frozen=True)
class Replay:
    """Which rows are trained on behind the picks, and how many.

    Args:
        share (`float`, *optional*, defaults to 0.05):
            Their share of all rows that are trained on, the picks and they together: above 0 and below 1. There is one
            row at least.
        method (`"random"` or `"k_means"`, *optional*, defaults to `"random"`):
            `"random"` draws from the whole pool, `"k_means"` takes the rows nearest to the centres of as many clusters
            of its features (k-means prototypes), which takes some passes over the pool.
        seed (`int`, *optional*, defaults to 0):
            Seed of the draws. More picks of the same pool keep the random rows that were drawn before.

    Raises:
        `ValueError`: If a value is out of range.

    Example:
        >>> Replay(share=0.05).num_rows(95)
        5
    """

    share: float = 0.05
    method: ReplayMethod = "random"
    seed: int = 0

    def __post_init__(self) -> None:
        is_number = isinstance(self.share, int | float | np.number) and not isinstance(self.share, bool)
        if not is_number or not 0 < self.share < 1:
            raise ValueError(f"replay_share must be above 0 and below 1 (0.05 is a twentieth), got {self.share!r}")
        check_choice("the method of replay", self.method, ReplayMethod)
        check_whole("the seed of replay", self.seed, 0)

    @classmethod
    def of(cls, value: float | Replay | None) -> Replay | None:
        """Returns the argument `replay_share` as an object; `None` if there is to be no replay."""
        if value is None or isinstance(value, cls):
            return value
        is_zero = isinstance(value, int | float) and not isinstance(value, bool) and value == 0
        return None if is_zero else cls(share=value)  # type: ignore[arg-type]  # __post_init__ checks it

    def num_rows(self, num_picks: int) -> int:
        """Returns how many rows go with so many picks."""
        return max(1, math.floor(self.share * num_picks / (1 - self.share) + 0.5))


@dataclass(frozen=True)
class ReplayDraw:
    """What replay rows are drawn from.

    Args:
        replay (`Replay`):
            How many, and how.
        pool_size (`int`):
            N.
        blocked_rows (`np.ndarray`):
            Row numbers of the pool that may not be trained on: excluded, unreadable, or trained on before.
    """

    replay: Replay
    pool_size: int
    blocked_rows: np.ndarray

    def check(self, num_examples: int, has_partial_features: bool) -> None:
        """Raises `ValueError` if no row can be drawn, before a model runs.

        Args:
            num_examples (`int`):
                Rows to pick.
            has_partial_features (`bool`):
                Whether only the rows of a shortlist get features.
        """
        if has_partial_features and self.replay.method == "k_means":
            raise ValueError(
                "replay by k_means clusters the whole pool, and with a shortlist by another embedder only the rows on "
                "it have features: use Replay(method='random')"
            )
        num_open = self.pool_size - len(np.unique(self.blocked_rows))
        if num_open <= num_examples:
            raise ValueError(
                f"replay_share={self.replay.share:g} draws from the rows that are not picked, and all {num_open} that "
                f"may be picked are: leave it out, or pick fewer than {num_open}"
            )

    def rows(self, picks: np.ndarray, selection: RowSelection, embedded_rows: np.ndarray | None) -> np.ndarray:
        """Draws the rows, fewer than asked for where fewer are left.

        Args:
            picks (`np.ndarray`):
                (n,) row numbers of the pool.
            selection (`RowSelection`):
                The same picks, with the prepared pool.
            embedded_rows (`np.ndarray`, *optional*):
                Row numbers of the rows of the prepared pool, where it does not hold all.

        Returns:
            `np.ndarray`: (r,) row numbers of the pool, int64.
        """
        is_open = np.ones(self.pool_size, dtype=bool)
        is_open[self.blocked_rows] = False
        is_open[picks] = False
        count = min(self.replay.num_rows(len(picks)), int(is_open.sum()))
        if self.replay.method == "random":
            order = np.random.default_rng([self.replay.seed, self.pool_size]).permutation(self.pool_size)
            return order[is_open[order]][:count].astype(np.int64)
        numbers = np.arange(self.pool_size) if embedded_rows is None else embedded_rows
        closed_rows = {*np.flatnonzero(~is_open[numbers]).tolist(), *selection.pool.unusable.numbers}
        return numbers[_prototypes(selection, count, sorted(closed_rows), self.replay.seed)]

    def to_record(self, num_rows: int) -> dict[str, Any]:
        """Returns the entry of the record."""
        return {
            "share": float(self.replay.share),
            "method": self.replay.method,
            "seed": self.replay.seed,
            "rows": num_rows,
        }


def _prototypes(selection: RowSelection, count: int, closed_rows: list[int], seed: int) -> list[int]:
    """Returns the places of the rows that stand for the clusters of a pool, the largest cluster first."""
    pool = selection.pool
    count = min(count, pool.num_rows - len(closed_rows))
    if count < 1:
        return []
    request = SelectionRequest(
        AvailabilityTracker(count),
        replace=False,
        observed_rows=torch.zeros(0, pool.dimension, dtype=torch.float64, device=pool.device),
        exclude=closed_rows,
    )
    return KMeans(seed=seed).pick(pool, selection.gp, request).indices


def replay_rows(pool: Dataset, rows: np.ndarray, num_picks: int, mapping: ColumnMapping | None = None) -> Dataset:
    """Returns replay rows with the columns of picked rows; they have no gain and no nearest target.

    Args:
        pool (`Dataset`):
            The N rows of the pool.
        rows (`np.ndarray`):
            (r,) row numbers.
        num_picks (`int`):
            Picks before them, from which `itl_rank` goes on.
        mapping (`ColumnMapping`, *optional*):
            Which column of the pool holds which part of a row.
    """
    table = pool.select(rows).with_format("arrow")[:]
    table = as_stored(Dataset(table.replace_schema_metadata(pool.features.arrow_schema.metadata)))
    table = with_read_columns(table, mapping)
    columns = {"pool_index": rows.tolist(), "itl_rank": list(range(num_picks + 1, num_picks + 1 + len(rows)))}
    return as_stored(concatenate_datasets([table, Dataset.from_dict(columns)], axis=1))


def behind_picks(picks: Dataset, replay: Dataset | None) -> Dataset:
    """Returns the picks followed by replay rows, whose columns of gain and nearest target are empty."""
    if replay is None:
        return picks
    others = [name for name in picks.column_names if name not in replay.column_names]
    empty = Dataset.from_dict({name: [None] * len(replay) for name in others}) if others else None
    rows = replay if empty is None else concatenate_datasets([replay, empty], axis=1)
    return concatenate_datasets([picks, rows.select_columns(picks.column_names).cast(picks.features)])


def replay_of(rows: Dataset, num_picks: int) -> Dataset | None:
    """Returns the replay rows among picks and replay rows, as `replay_rows` made them; `None` if there are none."""
    if len(rows) == num_picks:
        return None
    replay = rows.select(range(num_picks, len(rows)))
    return replay.remove_columns([name for name in _MEASURED_COLUMNS if name in rows.column_names])


def gains_with_replay(gains: np.ndarray, num_rows: int) -> np.ndarray:
    """Returns the gains of all rows that are trained on, (num_rows,): replay rows get the mean of the picks' gains."""
    return np.concatenate([gains, np.full(num_rows - len(gains), gains.mean())])


def methods() -> tuple[str, ...]:
    """Returns the names of the methods."""
    return get_args(ReplayMethod)
