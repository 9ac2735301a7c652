"""Checks of a trainer that a selection is attached to: whether it can train on the picks, and what happens at the end
of an epoch.
"""

from __future__ import annotations

import os
import warnings
from typing import TYPE_CHECKING, Any

import datasets
import torch

from itl_hf.training.repeated_prompts import repetition_of

if TYPE_CHECKING:
    from transformers import Trainer

#: What errors advise where `attach` is not possible.
ALTERNATIVE = "build the trainer with train_dataset=selection.dataset, without attach"


def check_trainer(trainer: Trainer) -> None:
    """Raises an error unless a sampler can determine which rows the trainer trains on.

    Raises:
        `ValueError`: If there is no training dataset, or it is a stream, several datasets or packed rows.
        `TypeError`: If this is not a `transformers.Trainer`, or its class has a training order of its own.
    """
    from transformers import Trainer

    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"attach needs a transformers.Trainer, not {type(trainer).__name__}: use SelectionSampler there."
        )
    if trainer.train_dataset is None:
        raise ValueError("The trainer has no train_dataset. Build it with the pool you selected from as train_dataset.")
    is_stream = isinstance(trainer.train_dataset, (torch.utils.data.IterableDataset, datasets.IterableDataset))
    if is_stream or not hasattr(trainer.train_dataset, "__len__"):
        raise ValueError(
            f"The trainer's train_dataset is an iterable ({type(trainer.train_dataset).__name__}), in which no row can "
            f"be looked up by its number: {ALTERNATIVE}."
        )
    if isinstance(trainer.train_dataset, dict):
        raise ValueError(
            f"The trainer's train_dataset is a dictionary of datasets ({', '.join(map(str, trainer.train_dataset))}), "
            "in which a row number names several rows: join them with datasets.concatenate_datasets, select from that."
        )
    if getattr(trainer.args, "packing", False):
        raise ValueError(f"With packing=True the trainer merges rows, so single picks cannot be found: {ALTERNATIVE}.")
    _check_order(trainer)


def _check_order(trainer: Trainer) -> None:
    """Raises an error if the trainer relies on an order of its rows that the order of the picks would break."""
    from transformers import Trainer

    trainer_class: Any = type(trainer)
    if getattr(trainer, "calculate_KL", False):
        loss = getattr(trainer.args, "loss_type", None)
        raise TypeError(
            f"{trainer_class.__name__} with loss_type={loss!r} estimates its KL term from neighbouring rows of its "
            f"train_dataset, so these must be the picks, in their order: {ALTERNATIVE}. "
            "(loss_type='apo_zero_unpaired' has no such term.)"
        )
    if trainer_class._get_train_sampler is Trainer._get_train_sampler or repetition_of(trainer) is not None:
        return
    if trainer_class._get_train_sampler.__module__ == "trl.trainer.kto_trainer":  # its own order is for the KL term
        return
    raise TypeError(f"{trainer_class.__name__} has a training order of its own that it relies on; {ALTERNATIVE}.")


def check_sharding(trainer: Trainer) -> None:
    """Checks that a model is sharded where the launcher was asked for it: accelerate ignores FSDP on one process.

    Raises:
        `ValueError`: If the launcher's config says FSDP and the model would not be sharded.
    """
    is_asked_for = os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
    if is_asked_for and not (trainer.is_fsdp_enabled and trainer.args.world_size > 1):
        raise ValueError(
            "the config of accelerate launch shards the model (FSDP), but training would not: it runs as "
            f"{trainer.args.world_size} process(es) on {trainer.args.device.type}. Set num_processes to the number of "
            "GPUs, or take a config without FSDP (recipes/accelerate_configs/single_gpu.yaml)"
        )


def rows_per_step(trainer: Trainer) -> int:
    """Returns the number of picks that all processes together take at once from the data loader."""
    repetition = repetition_of(trainer)
    if repetition is not None:
        return repetition.prompts_per_batch
    args = trainer.args
    return args.train_batch_size * (1 if trainer.accelerator.split_batches else args.world_size)


def warn_about_sampling_strategy(trainer: Trainer, stacklevel: int = 3) -> None:
    """Warns that the attached selection replaces `train_sampling_strategy`."""
    strategy = getattr(trainer.args, "train_sampling_strategy", "random")
    # Of the class, because some trainers of TRL have a default of their own.
    if strategy not in ("random", getattr(type(trainer.args), "train_sampling_strategy", "random")):
        warnings.warn(
            f"train_sampling_strategy={getattr(strategy, 'value', strategy)!r} has no effect on training any more: the "
            "attached selection decides the order.",
            stacklevel=stacklevel,
        )


def warn_about_incomplete_step(trainer: Trainer, num_picks: int, stacklevel: int = 3) -> None:
    """Warns if the last picks do not fill a step, so that an epoch trains on some picks twice or not at all."""
    args, accelerator, step = trainer.args, trainer.accelerator, rows_per_step(trainer)
    remainder = num_picks % step
    if remainder == 0 or args.process_index != 0:
        return
    if repetition_of(trainer) is not None:
        effect = f"so the last batch of prompts is filled up with {step - remainder} that were trained on already"
    elif args.dataloader_drop_last:
        effect = f"with dataloader_drop_last=True the last {remainder} of them are left out of every epoch"
    elif args.world_size > 1 and accelerator.even_batches:
        effect = (
            f"so the last step of every epoch is filled up with {step - remainder} that were trained on already, "
            f"for all {args.world_size} processes to take equally many steps"
        )
    else:
        return
    warnings.warn(
        f"{num_picks} picks do not divide into batches of {step} over all processes; {effect}. Select a "
        f"multiple of {step} to avoid it, or pass remainder='drop' to leave the last {remainder} out.",
        stacklevel=stacklevel,
    )
