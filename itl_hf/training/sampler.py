"""`SelectionSampler`: a PyTorch sampler that yields the picked rows of a pool.

A sampler passes row numbers to the data loader and leaves the pool where it is: nothing is copied, and the same pool
can be used with many selections. The price is that the row numbers are only valid for the pool as it was when it was
selected from: if the pool is filtered, shuffled or packed afterwards, they refer to the wrong rows. In that case train
on `selection.dataset` instead.

The order of the rows is a function of the selection, the seed and the epoch alone. It depends neither on the rank of
the process nor on a global random generator, so every process has the same order, and a data-parallel loader can share
the batches out among the processes. It is also what makes a run resume in the middle of an epoch: see `resume.py`, and
`state_dict` and `load_state_dict` here for a training loop of your own.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from numbers import Real
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import torch
from torch.utils.data import Sampler

from itl_hf.selection.feature_arrays import refuse_masked
from itl_hf.training.resume import describe_differences

Order = Literal["gain", "shuffled", "interleaved"]
NEAREST_COLUMN = "itl_nearest_target"


@runtime_checkable
class HasIndices(Protocol):
    """Any object with picked row numbers, such as a [`Selection`]."""

    @property
    def indices(self) -> Any:
        """Row numbers of the pool in the order picked, shape `(n,)`."""


SelectionOrIndices = HasIndices | Sequence[int] | np.ndarray | torch.Tensor


class SelectionSampler(Sampler[int]):
    """Yields the picked rows of a pool: best first, shuffled in every epoch, or in turn for each target.

    It can be used wherever a `torch.utils.data.RandomSampler` can. As with PyTorch's own distributed sampler, a
    training loop of your own must call [`~SelectionSampler.set_epoch`] before each epoch for `"shuffled"` to differ
    between epochs; Trainers call it by themselves.

    On several processes a data-parallel loader fills up the last step with the first picks again, so that all processes
    have equally many batches (accelerate's `even_batches`). No pick is repeated if the number of picks is a multiple of
    batch size times processes. Pass that product as `multiple_of` to leave out the picks that do not fill a step.

    Args:
        selection_or_indices ([`Selection`], `Sequence[int]`, `np.ndarray` or `torch.Tensor`):
            A selection, or row numbers of the pool, shape `(n,)`, best first. A row may occur more than once. The
            replay rows of a selection come behind its picks.
        order (`"gain"`, `"shuffled"` or `"interleaved"`, *optional*, defaults to `"gain"`):
            `"gain"` keeps the order in which the rows were picked. `"shuffled"` permutes it, differently in each epoch.
            `"interleaved"` takes one pick of each nearest target in turn, best first for each, so that every part of
            the epoch trains for all targets; the turns follow the order of the targets' first picks.
        seed (`int`, *optional*, defaults to 0):
            Together with the epoch it determines the permutation of `order="shuffled"`. Not used otherwise.
        nearest_targets (`Sequence[int]`, *optional*):
            The nearest target of each pick, shape `(n,)`, for `order="interleaved"`. Read from the selection if left
            out; required with bare row numbers.
        multiple_of (`int`, *optional*, defaults to 1):
            The length of an epoch is the largest multiple of this number that is at most the number of picks. The last
            picks of the epoch's order are left out.

    Raises:
        `ValueError`: If there are no picks or fewer than `multiple_of`, a row number is negative, `nearest_targets` is
            missing or has the wrong length, or `order`, `seed` or `multiple_of` is not one of the allowed values.
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

    # No attribute may be called `generator`: accelerate would replace an attribute of that name and seed it.

    def __init__(
        self,
        selection_or_indices: SelectionOrIndices,
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
        self.seed = whole_number(seed, "seed")
        self.multiple_of = whole_number(multiple_of, "multiple_of", minimum=1)
        if nearest_targets is None:
            nearest_targets = nearest_targets_of(selection_or_indices)
        self._set_picks(row_numbers(selection_or_indices), nearest_targets)
        self.epoch = 0
        self._position = 0  # number of rows yielded so far in the current pass
        self._resume_position = 0  # first position of the next pass; set by load_state_dict, used once

    def _set_picks(self, indices: np.ndarray, nearest_targets: Sequence[int] | np.ndarray | None) -> None:
        if len(indices) < self.multiple_of:
            raise ValueError(
                f"There are {len(indices)} picks, but a step takes {self.multiple_of} (multiple_of): select more, or "
                "use a smaller batch."
            )
        self.indices: np.ndarray = indices  # (n,) int64
        # The order of every epoch, unless it is shuffled, shape (n,).
        self._constant_order = (
            indices if self.order != "interleaved" else indices[_interleave(nearest_targets, len(indices))]
        )

    def __len__(self) -> int:
        # The same in a resumed pass: Trainers read it once for their schedulers and for the position to resume from.
        return len(self.indices) // self.multiple_of * self.multiple_of

    def __iter__(self) -> Iterator[int]:
        rows = self.rows()
        start, self._resume_position = self._resume_position, 0
        for position in range(start, len(rows)):
            self._position = position + 1
            yield int(rows[position])
        self._position = 0

    def rows(self) -> np.ndarray:
        """Returns the row numbers of the current epoch in the order they are yielded, shape `(len(self),)`, int64."""
        if self.order != "shuffled":
            return self._constant_order[: len(self)]
        # Hashed together, so that (seed 0, epoch 1) and (seed 1, epoch 0) do not have the same permutation.
        epoch_seed = int(np.random.SeedSequence([self.seed, self.epoch]).generate_state(1, np.uint64)[0])
        random_source = torch.Generator(device="cpu").manual_seed(epoch_seed)
        permutation = torch.randperm(len(self.indices), generator=random_source, device="cpu")  # (n,)
        return np.take(self.indices, permutation.numpy())[: len(self)]

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which determines the permutation of the next pass.

        Args:
            epoch (`int`):
                Number of the epoch, from 0. On several processes it must be the same on all of them.
        """
        epoch = whole_number(epoch, "epoch")
        if epoch != self.epoch:
            self._position = self._resume_position = 0
        self.epoch = epoch

    def state_dict(self) -> dict[str, Any]:
        """Returns what [`~SelectionSampler.load_state_dict`] needs to resume in the middle of an epoch, as JSON values.

        `position` counts the rows passed to the data loader, which is ahead of training when it prefetches: with
        `num_workers > 0` save the state between epochs, or use a data loader that keeps track of the position
        (torchdata's).
        """
        state = {"order": self.order, "seed": self.seed, "length": len(self), "picks": rows_digest(self.indices)}
        return {**state, "epoch": self.epoch, "position": self._position or self._resume_position}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes in the middle of an epoch: the next pass yields only the rows that the saved pass had left.

        Args:
            state_dict (`dict`):
                From [`~SelectionSampler.state_dict`] of a sampler of the same picks, order and seed.

        Raises:
            `ValueError`: If the state belongs to a sampler with another order, seed, number of picks, or other picks,
                or its epoch or position is absent or impossible. The sampler then stays as it was.
        """
        own_state = self.state_dict()
        settings = {name: own_state[name] for name in ("order", "seed", "length", "picks")}
        if differences := describe_differences(state_dict, settings):
            raise ValueError(
                f"This state was saved by another sampler: {differences}. Build the sampler as it was then."
            )
        epoch = whole_number(state_dict.get("epoch"), "epoch of the state")
        position = whole_number(state_dict.get("position"), "position of the state")
        if position > len(self):
            raise ValueError(f"position of the state is {position}, but an epoch has {len(self)} rows.")
        self.set_epoch(epoch)
        self._position, self._resume_position = 0, position

    def __repr__(self) -> str:
        return f"SelectionSampler({len(self)} picks, order={self.order!r}, seed={self.seed}, epoch={self.epoch})"


def row_numbers(selection_or_indices: SelectionOrIndices) -> np.ndarray:
    """Checks picks and returns a copy of their row numbers.

    Args:
        selection_or_indices ([`Selection`], `Sequence[int]`, `np.ndarray` or `torch.Tensor`):
            A selection or its row numbers, shape `(n,)`.

    Returns:
        `np.ndarray`: The row numbers, shape `(n,)`, int64.

    Raises:
        `ValueError`: If there are none, one is negative, or they are not one-dimensional.
        `TypeError`: If they are not integers.
    """
    indices: Any = selection_or_indices
    # Tensors are excluded: every tensor has a method called `indices`.
    if not isinstance(indices, torch.Tensor) and isinstance(indices, HasIndices):
        indices = getattr(indices, "training_indices", indices.indices)  # with the rows of `replay_share`
    refuse_masked(indices, "selection")
    values = np.asarray(indices.detach().cpu() if isinstance(indices, torch.Tensor) else indices)
    if values.size == 0:
        raise ValueError("There are no picks to train on: the selection is empty.")
    has_booleans = isinstance(indices, list | tuple) and any(isinstance(one, bool | np.bool_) for one in indices)
    if values.dtype == np.bool_ or has_booleans:
        raise TypeError("Picks must be row numbers, not a mask of booleans: pass np.flatnonzero(mask).")
    if not np.issubdtype(values.dtype, np.integer):
        raise TypeError(f"Picks must be a selection or integer row numbers of the pool, not {values.dtype} values.")
    if values.ndim != 1:
        raise ValueError(f"Picks must be a flat list of row numbers, not an array of shape {values.shape}.")
    if values.min() < 0:
        position = int(np.flatnonzero(values < 0)[0])
        raise ValueError(f"Pick {position} is row {values[position]}: row numbers of the pool start at 0.")
    return values.astype(np.int64)  # a copy: the order must not change when the caller's array does


def nearest_targets_of(selection: Any) -> np.ndarray | None:
    """Returns the nearest target of each row of a [`Selection`] that is trained on, shape `(n,)`, -1 for replay rows;
    `None` for anything else.
    """
    dataset, replay = getattr(selection, "dataset", None), getattr(selection, "replay", None)
    if NEAREST_COLUMN not in (getattr(dataset, "column_names", None) or ()):
        return None
    column = dataset.with_format("numpy")[NEAREST_COLUMN][:]  # type: ignore[union-attr]
    # Replay rows have no nearest target; they take turns as those of one more.
    nearest = np.nan_to_num(np.asarray(column, dtype=np.float64), nan=-1).astype(np.int64)
    return nearest if replay is None else np.concatenate([nearest, np.full(len(replay), -1)])


def training_dataset_of(selection: Any) -> Any:
    """Returns the rows that a [`Selection`] trains on; `None` for row numbers."""
    return getattr(selection, "training_dataset", getattr(selection, "dataset", None))


def rows_digest(rows: np.ndarray) -> str:
    """Returns a short hash of row numbers and their order."""
    return hashlib.sha256(np.ascontiguousarray(rows, dtype="<i8").tobytes()).hexdigest()[:32]


def _interleave(nearest_targets: Sequence[int] | np.ndarray | None, num_picks: int) -> np.ndarray:
    """Returns the order of `"interleaved"`, shape `(n,)`: the first pick of every target, then the second ones, ..."""
    if nearest_targets is None:
        raise ValueError(
            "order='interleaved' takes one pick of each nearest target in turn, and bare row numbers do not have "
            "nearest targets: pass a Selection, or nearest_targets=."
        )
    targets = np.asarray(nearest_targets)  # (n,)
    if targets.shape != (num_picks,):
        raise ValueError(f"nearest_targets must be {num_picks} numbers, one for each pick, not {targets.shape}.")
    _, first_pick, group = np.unique(targets, return_index=True, return_inverse=True)
    by_target = np.argsort(group, kind="stable")  # (n,) the picks of each target side by side
    sizes = np.bincount(group)
    turn = np.empty(num_picks, dtype=np.int64)  # number of picks of the same target that come before each pick
    turn[by_target] = np.arange(num_picks) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.lexsort((first_pick[group], turn))


def whole_number(value: Any, name: str, minimum: int = 0) -> int:
    """Returns the value as an `int`; raises `ValueError` unless it is a whole number of at least `minimum`."""
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or int(value) != value or value < minimum:
        raise ValueError(f"{name} must be a whole number of at least {minimum}, not {value!r}.")
    return int(value)
