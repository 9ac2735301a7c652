"""Trainers that generate their answers, such as TRL's `GRPOTrainer`, `RLOOTrainer` and `DistillationTrainer`.

They take each prompt several times, once for each answer of its group, and each batch of prompts several times, once
for each step that reuses its answers. Their own sampler (TRL's `RepeatSampler`) repeats the rows of the whole dataset
in this pattern; `RepeatedPicks` repeats the picks in the same pattern, in the order of the attached selection.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Sampler

if TYPE_CHECKING:
    from transformers import Trainer

    from itl_hf.training.sampler import SelectionSampler


@dataclass(frozen=True)
class Repetition:
    """How a trainer repeats its prompts.

    Args:
        num_generations (`int`):
            Answers to each prompt: how often it comes in a batch, one after the other.
        prompts_per_batch (`int`):
            Different prompts that all processes together generate answers for at once.
        num_steps (`int`):
            How often such a batch is repeated, for the steps that use its answers.
    """

    num_generations: int
    prompts_per_batch: int
    num_steps: int


def repetition_of(trainer: Trainer) -> Repetition | None:
    """Returns how a trainer repeats its prompts; `None` if each row comes once in an epoch.

    Args:
        trainer (`transformers.Trainer`):
            Any trainer with a training dataset that has a length.
    """
    from transformers import Trainer

    trainer_class: Any = type(trainer)
    if trainer_class._get_train_sampler is Trainer._get_train_sampler:
        return None
    sampler = trainer_class._get_train_sampler(trainer)
    if type(sampler).__name__ != "RepeatSampler" or not type(sampler).__module__.startswith("trl."):
        return None
    return Repetition(sampler.mini_repeat_count, sampler.batch_size, sampler.repeat_count)


class RepeatedPicks(Sampler[int]):
    """Yields the picks in the pattern of a trainer that generates its answers.

    Such a trainer takes full batches of prompts only. If the picks do not fill the last one, the first picks of the
    epoch fill it. (`SelectionSampler(..., multiple_of=prompts_per_batch)` leaves the last picks out instead.)

    Args:
        sampler (`SelectionSampler`):
            Yields each pick once.
        repetition (`Repetition`):
            The pattern.

    Example:
        >>> from itl_hf.training import SelectionSampler
        >>> list(RepeatedPicks(SelectionSampler([7, 2, 5]), Repetition(2, prompts_per_batch=3, num_steps=2)))
        [7, 7, 2, 2, 5, 5, 7, 7, 2, 2, 5, 5]
    """

    def __init__(self, sampler: SelectionSampler, repetition: Repetition) -> None:
        super().__init__()
        self.sampler, self.repetition = sampler, repetition

    def _num_batches(self) -> int:
        return -(-len(self.sampler) // self.repetition.prompts_per_batch)

    def __len__(self) -> int:
        pattern = self.repetition
        return self._num_batches() * pattern.prompts_per_batch * pattern.num_generations * pattern.num_steps

    def __iter__(self) -> Iterator[int]:
        pattern = self.repetition
        # `resize` begins again with the first picks where they end.
        prompts = np.resize(self.sampler.rows(), (self._num_batches(), pattern.prompts_per_batch))  # (B, P)
        for batch in prompts:
            yield from np.tile(np.repeat(batch, pattern.num_generations), pattern.num_steps).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the sampler of picks."""
        self.sampler.set_epoch(epoch)
