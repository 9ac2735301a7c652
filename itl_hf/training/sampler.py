"""The order in which picked rows are trained on, as a PyTorch sampler.

A sampler hands row numbers to the data loader and leaves the pool where it is: nothing is copied, and the same pool can
serve many selections. The price is that row numbers mean nothing once the rows have moved: filter, shuffle or pack the
pool after selecting and the picks point at the wrong rows. Where that happens, train on `selection.dataset` instead.

The order is a function of the selection, the seed and the epoch alone. It never reads the process's rank and never
touches a global random generator, so every process walks the same order and data-parallel loaders can deal it out.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch.utils.data import Sampler

Order = Literal["gain", "shuffled", "interleaved"]
NEAREST_COLUMN = "itl_nearest_target"


@runtime_checkable
class HasIndices(Protocol):
    """Anything with picked row numbers, such as a [`Selection`]."""

    @property
    def indices(self) -> Any:
        """Row numbers of the pool in the order picked, shape `(n,)`."""


Picks = HasIndices | Sequence[int] | np.ndarray | torch.Tensor


class SelectionSampler(Sampler[int]):
    """Yields the picked rows of a pool: best first, shuffled anew every epoch, or dealt out over the targets.

    Stands wherever `torch.utils.data.RandomSampler` does. As with PyTorch's own distributed sampler, a loop of your
    own must call [`~SelectionSampler.set_epoch`] before each epoch for `"shuffled"` to differ between epochs;
    Trainers do so by themselves.

    On several processes a data-parallel loader fills the last step with the first picks again, so that all processes
    have equally many batches (accelerate's `even_batches`). Nothing repeats where batch size times processes divides
    the number of picks; pass that product as `multiple_of` to leave out what does not fill a step instead.

    Args:
        selection_or_indices ([`Selection`], `Sequence[int]`, `np.ndarray` or `torch.Tensor`):
            A selection, or row numbers of the pool, shape `(n,)`, best first. A row may occur more than once.
        order (`"gain"`, `"shuffled"` or `"interleaved"`, *optional*, defaults to `"gain"`):
            `"gain"` keeps the order in which the rows were picked. `"shuffled"` permutes it, differently each epoch.
            `"interleaved"` deals the picks out in turn over their nearest targets, best first for each, so that every
            stretch of training serves all targets; targets take their turns in the order of their first picks.
        seed (`int`, *optional*, defaults to 0):
            Together with the epoch it decides the permutation of `order="shuffled"`. Not used otherwise.
        nearest_targets (`Sequence[int]`, *optional*):
            Each pick's target, shape `(n,)`, for `order="interleaved"`. A [`Selection`] brings its own; bare row
            numbers do not, and are refused without this.
        multiple_of (`int`, *optional*, defaults to 1):
            Every epoch ends after the largest multiple of this that the picks hold: the last ones of the epoch's order
            are left out of it.

    Raises:
        `ValueError`: If there are no picks or fewer than `multiple_of`, a row number is negative, `nearest_targets` are
            needed or too few, or `order`, `seed` or `multiple_of` is not one of those allowed.
        `TypeError`: If the row numbers are not integers.

    Example:
        >>> from torch.utils.data import DataLoader
        >>> from itl_hf.training import SelectionSampler
        >>> sampler = SelectionSampler([7, 2, 5])
        >>> list(sampler)
        [7, 2, 5]
        >>> list(SelectionSampler([7, 2, 5], order="interleaved", nearest_targets=[0, 0, 1]))
        [7, 5, 2]
        >>> loader = DataLoader(range(100, 110), sampler=sampler, batch_size=2)
        >>> [batch.tolist() for batch in loader]
        [[107, 102], [105]]
    """

    # Nothing here may be called `generator`: accelerate takes an attribute of that name over and reseeds it.

    def __init__(
        self,
        selection_or_indices: Picks,
        order: Order = "gain",
        seed: int = 0,
        *,
        nearest_targets: Sequence[int] | np.ndarray | None = None,
        multiple_of: int = 1,
    ) -> None:
        super().__init__()
        if order not in get_args(Order):
            raise ValueError(f"order must be one of {', '.join(map(repr, get_args(Order)))}, not {order!r}.")
        self.order = order
        self.seed = _natural(seed, "seed")
        self.multiple_of = _natural(multiple_of, "multiple_of", least=1)
        if nearest_targets is None:
            nearest_targets = nearest_targets_of(selection_or_indices)
        self._take(row_numbers(selection_or_indices), nearest_targets)
        self.epoch = 0
        self._position = 0  # rows handed out in the pass under way
        self._resume_at = 0  # where the next pass starts; set by load_state_dict, used once

    def _take(self, indices: np.ndarray, nearest_targets: Sequence[int] | np.ndarray | None) -> None:
        if len(indices) < self.multiple_of:
            raise ValueError(
                f"There are {len(indices)} picks, but a step takes {self.multiple_of} (multiple_of): select more, or "
                "use a smaller batch."
            )
        self.indices: np.ndarray = indices  # (n,) int64
        self._fixed = indices if self.order != "interleaved" else indices[_interleaved(nearest_targets, len(indices))]

    def __len__(self) -> int:
        # Constant, also in a resumed pass: schedulers and the resume arithmetic of Trainers read it once.
        return len(self.indices) // self.multiple_of * self.multiple_of

    def __iter__(self) -> Iterator[int]:
        rows = self.rows()
        start, self._resume_at = self._resume_at, 0
        for position in range(start, len(rows)):
            self._position = position + 1
            yield int(rows[position])
        self._position = 0

    def rows(self) -> np.ndarray:
        """The row numbers of the current epoch in the order they are yielded, shape `(len(self),)`, int64."""
        if self.order != "shuffled":
            return self._fixed[: len(self)]
        # Hashed together, so that (seed 0, epoch 1) and (seed 1, epoch 0) do not share a permutation.
        mixed = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0])
        source = torch.Generator(device="cpu").manual_seed(mixed)
        permutation = torch.randperm(len(self.indices), generator=source, device="cpu")  # (n,)
        return np.take(self.indices, permutation.numpy())[: len(self)]

    def set_epoch(self, epoch: int) -> None:
        """Chooses the permutation of the next pass.

        Args:
            epoch (`int`):
                Number of the epoch, from 0. On several processes it must be the same on all of them.
        """
        epoch = _natural(epoch, "epoch")
        if epoch != self.epoch:
            self._position = self._resume_at = 0
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """What [`~SelectionSampler.load_state_dict`] needs to go on from here, as plain JSON values.

        `position` counts the rows handed to the data loader, which runs ahead of training when it prefetches: with
        `num_workers > 0` save the state between epochs, or use a data loader that keeps track of it (torchdata's).
        """
        state = {"order": self.order, "seed": self.seed, "length": len(self), "picks": digest(self.indices)}
        return {**state, "epoch": self.epoch, "position": self._position or self._resume_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Makes the next pass yield only what was left of the pass that was saved.

        Args:
            state_dict (`dict`):
                From [`~SelectionSampler.state_dict`] of a sampler of the same picks, order and seed.

        Raises:
            `ValueError`: If the state belongs to a sampler with another order, seed, number of picks, or other picks.
        """
        mine = self.state_dict()
        differing = [key for key in ("order", "seed", "length", "picks") if state_dict.get(key) != mine[key]]
        if differing:
            said = ", ".join(f"{key} {state_dict.get(key)!r} (here {mine[key]!r})" for key in differing)
            raise ValueError(f"This state was saved by another sampler: {said}. Build the sampler as it was then.")
        self.set_epoch(state_dict["epoch"])
        self._resume_at = _natural(state_dict["position"], "position")
        self._position = 0

    def __repr__(self) -> str:
        return f"SelectionSampler({len(self)} picks, order={self.order!r}, seed={self.seed}, epoch={self.epoch})"


def row_numbers(picks: Picks) -> np.ndarray:
    """Checks picks and returns them as row numbers of their own memory.

    Args:
        picks ([`Selection`], `Sequence[int]`, `np.ndarray` or `torch.Tensor`):
            A selection or its row numbers, shape `(n,)`.

    Returns:
        `np.ndarray`: The row numbers, shape `(n,)`, int64.

    Raises:
        `ValueError`: If there are none, one is negative, or they are not one-dimensional.
        `TypeError`: If they are not integers.
    """
    # A tensor is asked first: every tensor has a method called `indices`.
    if isinstance(picks, torch.Tensor):
        values = picks.detach().cpu().numpy()
    else:
        source = picks.indices if isinstance(picks, HasIndices) else picks
        values = np.asarray(source.detach().cpu() if isinstance(source, torch.Tensor) else source)
    if values.size == 0:
        raise ValueError("There are no picks to train on: the selection is empty.")
    if values.dtype == np.bool_:
        raise TypeError("Picks must be row numbers, not a mask of booleans: pass np.flatnonzero(mask).")
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(f"Picks must be a selection or integer row numbers of the pool, not {values.dtype} values.")
    if values.ndim != 1:
        raise ValueError(f"Picks must be a flat list of row numbers, not an array of shape {values.shape}.")
    if values.min() < 0:
        where = int(np.flatnonzero(values < 0)[0])
        raise ValueError(f"Pick {where} is row {values[where]}: row numbers of the pool start at 0.")
    return values.astype(np.int64)  # a copy: the order must not change when the caller's array does


def nearest_targets_of(selection: Any) -> np.ndarray | None:
    """Each pick's nearest target, shape `(n,)`, where `selection` is a [`Selection`], else `None`."""
    dataset = getattr(selection, "dataset", None)
    if NEAREST_COLUMN not in (getattr(dataset, "column_names", None) or ()):
        return None
    return np.asarray(dataset.with_format("numpy")[NEAREST_COLUMN][:])  # type: ignore[union-attr]


def digest(rows: np.ndarray) -> str:
    """A short hash of row numbers and their order."""
    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<i8").tobytes()).hexdigest()[:32]


def _interleaved(nearest_targets: Sequence[int] | np.ndarray | None, num_picks: int) -> np.ndarray:
    """The order of dealing picks out over their targets, shape `(n,)`: every target's first pick, then their second."""
    if nearest_targets is None:
        raise ValueError(
            "order='interleaved' deals picks out over their nearest targets, which bare row numbers do not have: pass "
            "a Selection, or nearest_targets=."
        )
    targets = np.asarray(nearest_targets)  # (n,)
    if targets.shape != (num_picks,):
        raise ValueError(f"nearest_targets must be {num_picks} numbers, one for each pick, not {targets.shape}.")
    _, first, group = np.unique(targets, return_index=True, return_inverse=True)
    together = np.argsort(group, kind="stable")  # (n,) picks of a target side by side
    sizes = np.bincount(group)
    turn = np.empty(num_picks, dtype=np.int64)  # how many picks of its target come before each
    turn[together] = np.arange(num_picks) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.lexsort((first[group], turn))


def _natural(value: int, name: str, least: int = 0) -> int:
    if isinstance(value, bool) or int(value) != value or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, not {value!r}.")
    return int(value)
