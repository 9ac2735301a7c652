"""`Attachment`: connects a sampler to one trainer.

The trainer takes its training rows from the sampler. A callback calls the attachment when training and each epoch
begin, and writes its state to `trainer_state.json` with every checkpoint; `resume.py` reads it back and explains what
happens when a run is resumed in the middle of an epoch. Everything else of the trainer is left alone: only the methods
that return the training sampler and count the training rows are replaced, on this one object.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from torch.utils.data import BatchSampler
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from itl_hf.training.batch_samplers import BatchesOfPicks, own_batch_sampler
from itl_hf.training.repeated_prompts import RepeatedPicks, repetition_of
from itl_hf.training.resume import STATE_NAME, export_state, state_from_checkpoint
from itl_hf.training.sampler import SelectionSampler
from itl_hf.training.trainer_checks import ALTERNATIVE

if TYPE_CHECKING:
    import numpy as np
    from torch.utils.data import DataLoader, Dataset
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments


class Attachment:
    """The sampler of one trainer and its state in checkpoints.

    Args:
        trainer (`transformers.Trainer`):
            The trainer.
        sampler (`SelectionSampler`):
            Yields the rows to train on.
        settings (`dict`):
            JSON values that must be the same when a run is resumed.
        picks (`np.ndarray`, *optional*):
            Shape `(n,)`, the picks as row numbers of the pool.
    """

    def __init__(
        self, trainer: Trainer, sampler: SelectionSampler, settings: dict[str, Any], picks: np.ndarray | None = None
    ) -> None:
        self.trainer = trainer
        self.sampler = sampler
        self.settings = settings
        self._picks = picks
        self.num_rows = len(trainer.train_dataset)  # type: ignore[arg-type]
        self.epoch: int | None = None  # None until the first epoch of a call of train()
        self._is_in_use = False
        self._batches: BatchesOfPicks | None = None
        self._repetition = repetition_of(trainer)
        #: What the data loader takes rows from.
        self._rows = sampler if self._repetition is None else RepeatedPicks(sampler, self._repetition)

    def install(self) -> None:
        """Connects the trainer to this attachment, in place of an earlier one."""
        trainer = self.trainer
        for callback in [one for one in trainer.callback_handler.callbacks if isinstance(one, SelectionCallback)]:
            trainer.remove_callback(callback)
        # With restore_callback_states_from_checkpoint=True the Trainer creates a new object of the callback's class
        # and replaces the old one by it. With a class for each trainer, the new object has the same attachment.
        callback_class: type[SelectionCallback] = type(STATE_NAME, (SelectionCallback,), {"attachment": self})
        trainer.add_callback(callback_class())
        trainer._get_train_sampler = self.train_sampler  # type: ignore[method-assign]
        if hasattr(trainer, "get_batch_sampler"):  # sentence-transformers takes a sampler of batches
            trainer.get_batch_sampler = self.batch_sampler
        # Without this the log and `train_samples_per_second` would count every row of the pool as trained on.
        trainer.num_examples = self.num_examples  # type: ignore[method-assign]

    def train_sampler(self, train_dataset: Dataset[Any] | None = None) -> SelectionSampler | RepeatedPicks:
        """Replaces `Trainer._get_train_sampler`, whose argument is called `dataset` in some trainers."""
        if train_dataset is not None and len(train_dataset) != self.num_rows:  # type: ignore[arg-type]
            raise ValueError(
                f"The training dataset had {self.num_rows} rows when the selection was attached and now has "
                f"{len(train_dataset)}: attach again after changing trainer.train_dataset."  # type: ignore[arg-type]
            )
        self._is_in_use = True
        return self._rows

    def batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **options: Any) -> Any:
        """Replaces `get_batch_sampler` of sentence-transformers, which is called for evaluation too."""
        original_method = type(self.trainer).get_batch_sampler  # type: ignore[attr-defined]
        if dataset is not self.trainer.train_dataset:
            return original_method(self.trainer, dataset, batch_size, drop_last, **options)
        self.train_sampler(dataset)
        if own_batch_sampler(self.trainer) is None:
            return SelectionBatchSampler(self.sampler, batch_size, drop_last)
        all_rows: Any = dataset
        picked_rows = all_rows.select(self.sampler.indices)
        batches = original_method(self.trainer, picked_rows, batch_size, drop_last, **options)
        self._batches = BatchesOfPicks(batches, self.sampler)
        return self._batches

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Replaces `Trainer.num_examples`: counts the rows that one pass over a data loader trains on."""
        batches: Any = getattr(dataloader, "batch_sampler", None)
        while hasattr(batches, "batch_sampler"):  # accelerate wraps one batch sampler in another
            batches = batches.batch_sampler
        if getattr(batches, "sampler", None) in (self.sampler, self._rows):
            return len(self.sampler)
        return type(self.trainer).num_examples(self.trainer, dataloader)

    def state(self) -> dict[str, Any]:
        """Returns the JSON values that a checkpoint stores."""
        return dict(self.settings)

    def picks(self) -> list[np.ndarray]:
        """Returns the picks as row numbers of the pool, one array for each round."""
        return [] if self._picks is None else [self._picks]

    def start_run(self, trainer_state: TrainerState) -> None:
        """Called when training begins from its first step."""

    def resume_run(self, trainer_state: TrainerState, selection_state: dict[str, Any]) -> None:
        """Called when training resumes, with the state that the checkpoint stores and `state` returned."""

    def prepare_epoch(self, epoch: int) -> None:
        """Called before the data loader takes the first row of an epoch."""

    def on_train_begin(self, trainer_state: TrainerState) -> None:
        """Starts the run, or resumes it from the state in the checkpoint."""
        if not self._is_in_use:
            raise RuntimeError(
                "This trainer builds its training data loader without asking for a training sampler, so the attached "
                f"selection would be ignored: {ALTERNATIVE}."
            )
        self.epoch = None
        if trainer_state.global_step == 0:
            self.start_run(trainer_state)
            return
        self.resume_run(trainer_state, state_from_checkpoint(trainer_state, self.settings))
        # The Trainer writes only the states of callbacks that are in the checkpoint it resumed from.
        callback_states: Any = trainer_state.stateful_callbacks
        callback_states[STATE_NAME] = export_state(self.state())

    def on_epoch_begin(self, trainer_state: TrainerState) -> None:
        """Prepares the epoch and sets it in the sampler, also if the run is resumed in the middle of the epoch."""
        # Counted from the first epoch of the run, because `trainer_state.epoch` is a fraction after a callback ended an
        # epoch early.
        self.epoch = int(trainer_state.epoch or 0) if self.epoch is None else self.epoch + 1
        self.prepare_epoch(self.epoch)
        # When a run resumes in the middle of an epoch on several processes, the sampler is inside of
        # SkipBatchSampler > BatchSamplerShard > BatchSampler, one level deeper than `set_epoch` of the Trainer and of
        # accelerate reach. Without this call it would yield the order of epoch 0.
        self.sampler.set_epoch(self.epoch)
        if self._batches is not None:
            self._batches.set_epoch(self.epoch)


class SelectionCallback(TrainerCallback, ExportableState):
    """Calls an attachment when training and each epoch begin, and writes its state to checkpoints."""

    attachment: ClassVar[Attachment]

    def state(self) -> dict[str, Any]:
        """Returns what the Trainer writes to `trainer_state.json`."""
        return export_state(self.attachment.state())

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts or resumes the run."""
        self.attachment.on_train_begin(state)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Prepares the epoch; the Trainer calls this before the data loader yields the epoch's first batch."""
        self.attachment.on_epoch_begin(state)


class SelectionBatchSampler(BatchSampler):
    """Batches of picks, for a trainer that takes a sampler of batches.

    Args:
        sampler (`SelectionSampler`):
            Yields the picks.
        batch_size (`int`):
            Rows in a batch.
        drop_last (`bool`):
            Whether a last, smaller batch is left out.
    """

    sampler: SelectionSampler

    def __init__(self, sampler: SelectionSampler, batch_size: int, drop_last: bool) -> None:
        super().__init__(sampler, batch_size, drop_last)

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch of the sampler."""
        self.sampler.set_epoch(epoch)


def attachment_of(trainer: Trainer) -> Attachment | None:
    """Returns what is attached to a trainer, or `None`."""
    callbacks = (one for one in trainer.callback_handler.callbacks if isinstance(one, SelectionCallback))
    return next((callback.attachment for callback in callbacks), None)
