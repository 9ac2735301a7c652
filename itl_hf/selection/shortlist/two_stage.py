"""Shortlist by cheap features, then embed and select: the expensive embedder sees only the shortlisted rows.

The shortlisted rows are embedded as a dataset of their own, which a store keeps under the hash of these rows, so that
an interrupted run continues and equal shortlists share their features. Rows that a selection starts from
(`already_selected`) are embedded with them, because the picks are conditioned on their features.

Preparation and kernel of the expensive features are fitted on the embedded rows alone, since there are no others: what
the candidates have in common is taken out. That they are near the targets was decided by the cheap features; the
expensive ones decide among them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from itl_hf.embedding.embedders.base import Embedder, Fingerprint
from itl_hf.gp.standardization import Standardization
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.defaults import resolve_kernel_spec
from itl_hf.selection.embed_job import EmbedJob, Store
from itl_hf.selection.feature_arrays import Features, as_rows, finite
from itl_hf.selection.kept_features import open_pool, source_of
from itl_hf.selection.shortlist.indexed_rows import indexed_rows
from itl_hf.selection.shortlist.listed_rows import ListedRows
from itl_hf.selection.shortlist.options import Shortlist
from itl_hf.selection.shortlist.pick import rows_open_after
from itl_hf.selection.unusable_rows import blank_targets, describe_unusable, warn_of_unusable


@dataclass(frozen=True)
class EmbeddedRows:
    """The rows of a pool that have features: those on the shortlist, and those that were trained on before.

    Args:
        rows (`np.ndarray`):
            (L,) int64 row numbers of the pool, ascending.
        is_listed (`np.ndarray`):
            (L,) bool, the rows on the shortlist.
        features (`np.ndarray`):
            (L, d) their features.
    """

    rows: np.ndarray
    is_listed: np.ndarray
    features: np.ndarray

    def positions(self, indices: Sequence[int]) -> list[int]:
        """Places of row numbers of the pool among these rows."""
        places: list[int] = np.searchsorted(self.rows, indices).tolist()
        return places

    def constraints(self, constraints: SelectionConstraints, num_rows: int) -> SelectionConstraints:
        """The constraints of the whole pool of N rows, for these rows; none but the listed ones may be picked."""
        return _PartConstraints(
            replace=constraints.replace,
            exclude=np.flatnonzero(~self.is_listed),
            stop_when=constraints.stop_when,
            whole=constraints,
            rows=self.rows,
            num_pool_rows=num_rows,
        )

    def num_open(self, observed_rows: Sequence[int]) -> int:
        """Number of listed rows that are not among these."""
        return len(np.setdiff1d(self.rows[self.is_listed], observed_rows))

    def check_extension(self, num_examples: int, observed_rows: Sequence[int]) -> None:
        """Raises `ValueError` unless so many rows are left on the list after those that were picked."""
        num_open = self.num_open(observed_rows)
        if num_examples > num_open:
            raise ValueError(
                f"only {num_open} rows are left on the shortlist, and no others have features: select again with a "
                "larger num_examples, or from the same pool with already_selected=selection.indices"
            )


@dataclass(frozen=True)
class _PartConstraints(SelectionConstraints):
    """The constraints of a whole pool, applied to some of its rows: shares stay those of the whole selection."""

    whole: SelectionConstraints = dataclasses.field(default_factory=SelectionConstraints)
    rows: np.ndarray = dataclasses.field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    num_pool_rows: int = 0

    def pool_numbers(self, rows: Sequence[int]) -> Sequence[int]:
        """Row numbers of the whole pool."""
        numbers: list[int] = self.rows[list(rows)].tolist()
        return numbers

    def availability(self, num_examples: int, num_rows: int) -> AvailabilityTracker:
        """The search's view of budget and group shares."""
        return self.whole.availability(num_examples, self.num_pool_rows).subset(torch.from_numpy(self.rows))


@dataclass(frozen=True)
class ListRequest:
    """Which rows of the pool may be on the list.

    Args:
        availability (`AvailabilityTracker`):
            Number of picks, budget and group shares.
        free (`Tensor`):
            (N,) bool, rows that may be picked at all.
        observed_rows (`Sequence[int]`):
            Rows that the model was trained on before.
        replace (`bool`):
            Whether a row may be picked again.
        weights (`Tensor`, *optional*):
            (m,) weights of the targets, which get turns in proportion.
        quality (`Tensor`, *optional*):
            (N,) quality of the rows of the pool.
    """

    availability: AvailabilityTracker
    free: Tensor
    observed_rows: Sequence[int]
    replace: bool
    weights: Tensor | None = None
    quality: Tensor | None = None

    def open_rows(self, picks: Sequence[int]) -> Tensor:
        """Returns which rows may be picked after these, (N,) bool."""
        return rows_open_after(self.availability, self.free, picks, self.replace)


class TwoStages:
    """A shortlist by cheap features whose rows are embedded by another embedder.

    Args:
        shortlist (`Shortlist`):
            Its size and its embedder.
        pool_job (`EmbedJob`):
            The rows of the pool with the expensive embedder.
        target_job (`EmbedJob`):
            The targets.
        store (`Path` or `FeatureCache`, *optional*):
            Where features are kept.
        request (`ListRequest`):
            Which rows may be on the list.
        embed_pool (`Callable`, *optional*):
            Embeds the pool by the cheap embedder, for callers that keep these features; `EmbedJob.embed` when left out.

    Raises:
        `ValueError`: If no row of the pool may be picked.
    """

    def __init__(
        self,
        shortlist: Shortlist,
        pool_job: EmbedJob,
        target_job: EmbedJob,
        store: Store,
        request: ListRequest,
        embed_pool: Callable[[EmbedJob, Store], Features] = EmbedJob.embed,
    ) -> None:
        self.shortlist, self.pool_job, self.store, self.request = shortlist, pool_job, store, request
        embedder: Embedder = shortlist.embedder  # type: ignore[assignment]  # the caller has checked it
        cheap = embedder.for_targets(list(target_job.rows))
        cheap_pool_job = pool_job.by(cheap)
        self.cheap_fingerprint: Fingerprint = cheap_pool_job.fingerprint
        self.listed_rows = self._make_list(target_job.by(cheap), embed_pool(cheap_pool_job, store), cheap.preparation)
        self.num_first = shortlist.num_rows(request.availability.num_examples, len(pool_job.dataset))
        self._parts: list[tuple[np.ndarray, np.ndarray, str]] = []  # row numbers, their features, the rows' hash
        if not self.listed_rows.grow(request.open_rows(()), self.num_first):
            raise ValueError("no row of the pool may be picked: the budget or the shares of groups leave none")
        self._embed([*self.listed_rows.rows, *request.observed_rows])

    def _make_list(
        self, target_job: EmbedJob, features: Features, standardize: bool | str | Standardization
    ) -> ListedRows:
        """Embeds the targets by the cheap embedder, as `features` of the pool were; the list is empty at first."""
        target_features = finite(as_rows(target_job.embed(self.store), "targets"), "targets")
        spec = resolve_kernel_spec("auto", standardize)
        index = indexed_rows(source_of(features), spec.standardization)
        pool = open_pool(features, as_rows(features, "pool"), spec.standardization, self.request.quality)
        warn_of_unusable(describe_unusable(pool.unusable))
        self.request.free[pool.unusable.numbers] = False
        targets = blank_targets(pool.preparation(target_features), target_features).to(pool.device)
        earlier_rows = [] if self.request.replace else list(self.request.observed_rows)
        prepared_rows = pool.rows(earlier_rows) if earlier_rows else targets[:0]
        first_turn = len(set(earlier_rows))
        return ListedRows(pool, spec.kernel, targets, prepared_rows, first_turn, self.request.weights, index)

    def _embed(self, rows: Sequence[int]) -> None:
        """Embeds those of these rows that have no features yet, as a dataset of their own."""
        new_rows = np.setdiff1d(np.asarray(rows, dtype=np.int64), self.rows_in_order())
        if len(new_rows):
            job = self.pool_job.subset(new_rows, "shortlist")
            self._parts.append((new_rows, np.asarray(job.embed(self.store)), job.reading.keys.hash))

    def embedded_rows(self) -> EmbeddedRows:
        """All rows that were embedded so far."""
        rows = self.rows_in_order()
        features = np.concatenate([part for _, part, _ in self._parts])
        order = np.argsort(rows)
        return EmbeddedRows(rows[order], np.isin(rows[order], self.listed_rows.rows), features[order])

    def grow(self, picks: Sequence[int], unusable_rows: Sequence[int] = ()) -> bool:
        """Makes the list longer if it ended the picks too early, and embeds its further rows.

        The rule is that of `ShortlistedPool.pick`: the list grows if a budget or shares of groups leave none of its
        rows while the pool has further ones.

        Args:
            picks (`Sequence[int]`):
                The picks from the list, in numbers of the pool.
            unusable_rows (`Sequence[int]`, *optional*):
                Rows of the list that cannot be picked, because their features are zero or not finite.

        Returns:
            `bool`: Whether the list has grown, so that rows have to be picked again.
        """
        self.request.free[list(unusable_rows)] = False
        is_open = self.request.open_rows(picks)
        if len(picks) >= self.request.availability.num_examples or bool(is_open[self.listed_rows.rows].any()):
            return False
        has_grown = self.listed_rows.grow(is_open, self.num_first) > 0
        self._embed(self.listed_rows.rows)
        return has_grown

    def record(self) -> dict[str, Any]:
        """What the record of the selection says about the list.

        `parts` has, for each dataset that was embedded, the hash of its rows, under which the store has its features,
        and their number; `Selection.shortlist_rows` has the row numbers in this order.
        """
        return {
            **self.shortlist.to_json(),
            "first_size": self.num_first,
            **self.listed_rows.record(),
            "embedder": self.cheap_fingerprint,
            "parts": [[rows_hash, len(rows)] for rows, _, rows_hash in self._parts],
        }

    def rows_in_order(self) -> np.ndarray:
        """Row numbers of all embedded rows, part by part, (L,)."""
        return np.concatenate([np.zeros(0, dtype=np.int64), *(rows for rows, _, _ in self._parts)])
