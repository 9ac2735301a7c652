"""Samplers of batches of sentence-transformers' trainers, which decide which rows share a batch.

Losses with negatives in the batch need `batch_sampler="no_duplicates"`, and those that mine triplets
`"group_by_label"`. An attached selection decides which rows are trained on, and such a sampler their batches: it is
built on the picked rows alone, as if they were the trainer's dataset.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from torch.utils.data import BatchSampler

if TYPE_CHECKING:
    from transformers import Trainer

    from itl_hf.training.sampler import SelectionSampler


def own_batch_sampler(trainer: Trainer) -> str | None:
    """Returns the name of the sampler of batches that a trainer was built with; `None` if it is the default one.

    Args:
        trainer (`transformers.Trainer`):
            Any trainer; most take no sampler of batches.
    """
    method = getattr(type(trainer), "get_batch_sampler", None)
    if method is None:
        return None
    if not method.__module__.startswith("sentence_transformers."):
        return f"{type(trainer).__name__}.get_batch_sampler"
    batch_sampler = getattr(trainer.args, "batch_sampler", "batch_sampler")
    name = getattr(batch_sampler, "value", None) or getattr(batch_sampler, "__name__", batch_sampler)
    return None if name == "batch_sampler" else f"batch_sampler={name!r}"


def check_batch_sampler(trainer: Trainer, order: str, multiple_of: int, has_rounds: bool) -> bool:
    """Checks that a trainer's own sampler of batches and the attached selection can both be respected.

    Args:
        trainer (`transformers.Trainer`):
            The trainer.
        order (`str`):
            Order of the picks that was asked for.
        multiple_of (`int`):
            Picks in a step, if incomplete steps are to be left out; 1 if not.
        has_rounds (`bool`):
            Whether the picks change with every epoch.

    Returns:
        `bool`: Whether there is such a sampler. A warning then says that it decides the order.

    Raises:
        `ValueError`: If the two contradict each other.
    """
    name = own_batch_sampler(trainer)
    if name is None:
        return False
    if has_rounds:
        raise ValueError(
            f"The trainer's {name} is built once for all epochs, and active rounds train on other rows in every epoch. "
            "Select once before training and attach that selection, or use batch_sampler='batch_sampler'."
        )
    if order == "interleaved":
        raise ValueError(
            f"The trainer's {name} decides which picks share a batch, and so does order='interleaved'. Leave out "
            "order=, or use batch_sampler='batch_sampler'."
        )
    if multiple_of > 1:
        raise ValueError(
            f"The trainer's {name} decides which picks are left out of an epoch, and so does remainder='drop'. Leave "
            "it out and set dataloader_drop_last=True, or use batch_sampler='batch_sampler'."
        )
    warnings.warn(
        f"The trainer's {name} decides which picks share a batch and in which order they come, so order={order!r} has "
        "no effect. It is built on the picked rows alone.",
        stacklevel=3,
    )
    return True


class BatchesOfPicks(BatchSampler):
    """The batches that a trainer's own sampler makes of the picked rows.

    Args:
        batches (`BatchSampler`):
            A sampler of batches of the picks, which it numbers from 0.
        sampler (`SelectionSampler`):
            The attached sampler, which has the row number of each pick in the trainer's dataset.
    """

    sampler: SelectionSampler

    def __init__(self, batches: Any, sampler: SelectionSampler) -> None:
        super().__init__(sampler, batches.batch_size, batches.drop_last)
        self._batches = batches

    def __iter__(self) -> Iterator[list[int]]:
        for batch in self._batches:
            yield self.sampler.indices[list(batch)].tolist()

    def __len__(self) -> int:
        return len(self._batches)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of both samplers."""
        self.sampler.set_epoch(epoch)
        if hasattr(self._batches, "set_epoch"):
            self._batches.set_epoch(epoch)
