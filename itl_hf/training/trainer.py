"""Train on a selection with the Trainer that is already there: `attach(trainer, selection)`.

The trainer keeps its dataset, arguments, callbacks and checkpoints; only the order in which it walks the training rows
changes. The price is that picks are row numbers, so the trainer must hold the pool row for row. Where its preparation
filters or shuffles rows, give the pool a column `itl_index` with the row numbers and picks are found through it. Where
rows are packed together there is nothing left to point at, and the answer is `train_dataset=selection.dataset`.
"""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any, TypeVar

import datasets
import numpy as np
import torch
from transformers import TrainerCallback

from itl_hf.training.sampler import Order, Picks, SelectionSampler, row_numbers

if TYPE_CHECKING:
    from torch.utils.data import DataLoader, Dataset
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

    AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)

ID_COLUMN = "itl_index"
INSTEAD = "build the trainer with train_dataset=selection.dataset, without attach"


def attach(trainer: AnyTrainer, selection: Picks, *, order: Order = "gain", seed: int | None = None) -> AnyTrainer:
    """Makes a Trainer train on exactly the picked rows of its training dataset.

    The dataset is not copied, and evaluation and prediction stay as they are. One epoch is one pass over the picks, so
    epochs, steps, schedules, checkpoints and `resume_from_checkpoint` mean what they always do. After resuming, attach
    the same selection with the same `order` and `seed` again. Attaching twice replaces the first selection.

    The training dataset must be the pool, row for row. If it has a column `itl_index`, picks are looked up there
    instead of by position, and the trainer may filter or shuffle rows as it likes.

    On several processes accelerate fills up the last step of an epoch with the first picks (`even_batches`), so that
    all processes take equally many steps. A warning says how many picks that repeats; none are when batch size times
    processes divides the number of picks.

    Args:
        trainer (`transformers.Trainer`):
            A Trainer or a subclass that leaves the training sampler alone, such as TRL's `SFTTrainer`, with any model
            (PEFT or not). It is changed in place.
        selection ([`Selection`], `Sequence[int]`, `np.ndarray` or `torch.Tensor`):
            A selection from the trainer's training dataset, or row numbers of it, shape `(n,)`, best first.
        order (`"gain"` or `"shuffled"`, *optional*, defaults to `"gain"`):
            Best first in every epoch, or permuted anew for each.
        seed (`int`, *optional*):
            Seed of the shuffled order. Defaults to the trainer's `data_seed`, or else its `seed`.

    Returns:
        `transformers.Trainer`: The same trainer.

    Raises:
        ValueError: If the trainer has no training dataset, streams it, packs or shuffles its rows, or holds other rows
            than the pool the picks were made from.
        TypeError: If the trainer is not a `transformers.Trainer`, or brings a training order of its own.

    Example:
        ```python
        >>> from itl_hf import attach
        >>> trainer = SFTTrainer(model, args=args, train_dataset=pool, peft_config=lora)
        >>> attach(trainer, selection).train()
        ```
    """
    _check_trainer(trainer)
    picks = row_numbers(selection)  # (n,)
    rows = _positions(trainer, picks, getattr(selection, "pool_size", None))  # (n,)
    if seed is None:
        seed = trainer.args.seed if trainer.args.data_seed is None else trainer.args.data_seed
    sampler = SelectionSampler(rows, order=order, seed=seed)
    _warn_about_strategy(trainer)
    _warn_about_tail(trainer, len(sampler))

    attachment = _Attachment(trainer, sampler)
    trainer.remove_callback(_Attachment)
    trainer.add_callback(attachment)
    trainer._get_train_sampler = attachment.train_sampler  # type: ignore[method-assign]
    # Without this the log and `train_samples_per_second` would count every row of the pool as trained on.
    trainer.num_examples = attachment.num_examples  # type: ignore[method-assign]
    return trainer


class _Attachment(TrainerCallback):
    """The sampler of one trainer, and what keeps it on the trainer's epoch."""

    def __init__(self, trainer: Trainer, sampler: SelectionSampler) -> None:
        self.sampler = sampler
        self.num_rows = len(trainer.train_dataset)  # type: ignore[arg-type]
        self.count = functools.partial(type(trainer).num_examples, trainer)
        self.in_use = False

    def train_sampler(self, train_dataset: Dataset[Any] | None = None) -> SelectionSampler:
        # Takes the place of Trainer._get_train_sampler. `train_dataset` is called `dataset` in some trainers.
        if train_dataset is not None and len(train_dataset) != self.num_rows:  # type: ignore[arg-type]
            raise ValueError(
                f"The training dataset had {self.num_rows} rows when the selection was attached and now has "
                f"{len(train_dataset)}: attach again after changing trainer.train_dataset."  # type: ignore[arg-type]
            )
        self.in_use = True
        return self.sampler

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        batches: Any = getattr(dataloader, "batch_sampler", None)
        while hasattr(batches, "batch_sampler"):  # accelerate wraps one batch sampler in another
            batches = batches.batch_sampler
        return len(self.sampler) if getattr(batches, "sampler", None) is self.sampler else self.count(dataloader)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if not self.in_use:
            raise RuntimeError(
                "This trainer builds its training data loader without asking for a training sampler, so the attached "
                f"selection would be ignored: {INSTEAD}."
            )

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # A run resumed in mid-epoch on several processes walks SkipBatchSampler > BatchSamplerShard > BatchSampler, one
        # level deeper than the Trainer and accelerate reach with set_epoch: it would repeat the order of epoch 0.
        self.sampler.set_epoch(int(state.epoch or 0))


def _check_trainer(trainer: Trainer) -> None:
    from transformers import Trainer

    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"attach needs a transformers.Trainer, not {type(trainer).__name__}: use SelectionSampler there."
        )
    if type(trainer)._get_train_sampler is not Trainer._get_train_sampler:
        raise TypeError(f"{type(trainer).__name__} brings a training order that it relies on; {INSTEAD}.")
    if trainer.train_dataset is None:
        raise ValueError("The trainer has no train_dataset. Build it with the pool you selected from as train_dataset.")
    streams = isinstance(trainer.train_dataset, (torch.utils.data.IterableDataset, datasets.IterableDataset))
    if streams or not hasattr(trainer.train_dataset, "__len__"):
        raise ValueError(
            f"The trainer's train_dataset is an iterable ({type(trainer.train_dataset).__name__}), in which no row can "
            f"be looked up by its number: {INSTEAD}."
        )
    if getattr(trainer.args, "packing", False):
        raise ValueError(f"With packing=True the trainer merges rows, so single picks cannot be found: {INSTEAD}.")


def _positions(trainer: Trainer, picks: np.ndarray, pool_size: int | None) -> np.ndarray:
    """Where the picks are in the trainer's dataset, shape `(n,)`."""
    dataset = trainer.train_dataset
    if ID_COLUMN in (getattr(dataset, "column_names", None) or ()):
        return _look_up(dataset, picks)
    if getattr(trainer.args, "shuffle_dataset", False):
        raise ValueError(
            "With shuffle_dataset=True the trainer has moved the rows that the picks point at. Set "
            "shuffle_dataset=False: the order comes from attach (order='shuffled' shuffles the picks)."
        )
    num_rows = len(dataset)  # type: ignore[arg-type]
    if pool_size is not None and num_rows != pool_size:
        raise ValueError(
            f"The picks are row numbers of a pool of {pool_size} rows, but the trainer's train_dataset has {num_rows}. "
            f"Pass the pool itself as train_dataset, or {INSTEAD}. If the trainer drops rows while it prepares them, "
            f"give the pool a column '{ID_COLUMN}' with its row numbers first: "
            f"pool.add_column('{ID_COLUMN}', range(len(pool)))."
        )
    outside = np.unique(picks[picks >= num_rows])
    if outside.size:
        raise ValueError(f"The trainer's train_dataset has {num_rows} rows; picked but not in it: {_some(outside)}.")
    return picks


def _look_up(dataset: Any, picks: np.ndarray) -> np.ndarray:
    ids = np.asarray(dataset.select_columns([ID_COLUMN]).with_format("numpy")[:][ID_COLUMN])  # (N,)
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"Column '{ID_COLUMN}' of the train_dataset must hold whole numbers, one in every row.")
    order = np.argsort(ids, kind="stable")  # (N,)
    ids = ids[order]
    if (repeated := np.unique(ids[1:][ids[1:] == ids[:-1]])).size:
        raise ValueError(
            f"Column '{ID_COLUMN}' of the train_dataset must not repeat a number; it does: {_some(repeated)}."
        )
    places = np.minimum(np.searchsorted(ids, picks), max(len(ids) - 1, 0))  # (n,)
    missing = np.unique(picks[ids[places] != picks]) if len(ids) else np.unique(picks)
    if missing.size:
        raise ValueError(
            f"{missing.size} of the {len(np.unique(picks))} picked rows are not in column '{ID_COLUMN}' of the "
            f"trainer's train_dataset: {_some(missing)}. Either the trainer dropped them while preparing its data "
            "(rows with nothing left to learn after truncation, for one): leave them out of the pool and select again. "
            "Or the column numbers the rows of another pool."
        )
    return order[places]


def _some(rows: np.ndarray) -> str:
    return "rows " + ", ".join(map(str, rows[:10])) + (f" and {rows.size - 10} more" if rows.size > 10 else "")


def _warn_about_strategy(trainer: Trainer) -> None:
    strategy = getattr(trainer.args, "train_sampling_strategy", "random")
    if strategy != "random":
        warnings.warn(
            f"train_sampling_strategy={str(strategy)!r} has no effect on training any more: the attached selection "
            "decides the order.",
            stacklevel=3,
        )


def _warn_about_tail(trainer: Trainer, num_picks: int) -> None:
    args, accelerator = trainer.args, trainer.accelerator
    rows_per_step = args.train_batch_size * (1 if accelerator.split_batches else args.world_size)
    left = num_picks % rows_per_step
    if left == 0 or args.process_index != 0:
        return
    if args.dataloader_drop_last:
        effect = f"with dataloader_drop_last=True the last {left} of them are left out of every epoch"
    elif args.world_size > 1 and accelerator.even_batches:
        effect = (
            f"so the last step of every epoch is filled up with {rows_per_step - left} that were trained on already, "
            f"for all {args.world_size} processes to take equally many steps"
        )
    else:
        return
    warnings.warn(
        f"{num_picks} picks do not divide into batches of {rows_per_step} over all processes; {effect}. Select a "
        f"multiple of {rows_per_step} to avoid it.",
        stacklevel=3,
    )
