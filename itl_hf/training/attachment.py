"""What binds a sampler to one trainer: the trainer asks it for rows, tells it the epoch, and keeps its state.

The state goes into `trainer_state.json` with every checkpoint, and a resumed run is compared with it: another
selection, order or seed is an error instead of a run that silently trains on other rows. Nothing of the trainer's own
is replaced except, on this one object, the methods that name the training sampler and count the training rows.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, ClassVar

from torch.utils.data import BatchSampler
from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from itl_hf.training.pick_positions import INSTEAD
from itl_hf.training.sampler import SelectionSampler

if TYPE_CHECKING:
    import numpy as np
    from torch.utils.data import DataLoader, Dataset
    from transformers import Trainer, TrainerControl, TrainerState, TrainingArguments

STATE_NAME = "ItlSelectionCallback"  # the key in trainer_state.json


class Attachment:
    """The sampler of one trainer, and what a checkpoint says of it.

    Args:
        trainer (`transformers.Trainer`):
            The trainer.
        sampler (`SelectionSampler`):
            What it trains on.
        settings (`dict`):
            JSON values that a resumed run must share.
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
        self._in_use = False

    def install(self) -> None:
        """Puts this attachment into the trainer, in place of an earlier one."""
        trainer = self.trainer
        for callback in [one for one in trainer.callback_handler.callbacks if isinstance(one, SelectionCallback)]:
            trainer.remove_callback(callback)
        trainer.add_callback(_callback(self))
        trainer._get_train_sampler = self.train_sampler  # type: ignore[method-assign]
        if hasattr(trainer, "get_batch_sampler"):  # sentence-transformers asks for batches
            trainer.get_batch_sampler = self.batch_sampler
        # Without this the log and `train_samples_per_second` would count every row of the pool as trained on.
        trainer.num_examples = self.num_examples  # type: ignore[method-assign]

    def train_sampler(self, train_dataset: Dataset[Any] | None = None) -> SelectionSampler:
        """Takes the place of `Trainer._get_train_sampler`, whose argument is called `dataset` in some trainers."""
        if train_dataset is not None and len(train_dataset) != self.num_rows:  # type: ignore[arg-type]
            raise ValueError(
                f"The training dataset had {self.num_rows} rows when the selection was attached and now has "
                f"{len(train_dataset)}: attach again after changing trainer.train_dataset."  # type: ignore[arg-type]
            )
        self._in_use = True
        return self.sampler

    def batch_sampler(self, dataset: Any, batch_size: int, drop_last: bool, **options: Any) -> Any:
        """Takes the place of sentence-transformers' `get_batch_sampler`, which evaluation uses too."""
        if dataset is not self.trainer.train_dataset:
            kept = type(self.trainer).get_batch_sampler  # type: ignore[attr-defined]
            return kept(self.trainer, dataset, batch_size, drop_last, **options)
        return SelectionBatchSampler(self.train_sampler(dataset), batch_size, drop_last)

    def num_examples(self, dataloader: DataLoader[Any]) -> int:
        """Rows that one pass over a data loader trains on."""
        batches: Any = getattr(dataloader, "batch_sampler", None)
        while hasattr(batches, "batch_sampler"):  # accelerate wraps one batch sampler in another
            batches = batches.batch_sampler
        if getattr(batches, "sampler", None) is self.sampler:
            return len(self.sampler)
        return type(self.trainer).num_examples(self.trainer, dataloader)

    def state(self) -> dict[str, Any]:
        """JSON values for the checkpoint."""
        return dict(self.settings)

    def picks(self) -> list[np.ndarray]:
        """Row numbers of the pool, one array for each round."""
        return [] if self._picks is None else [self._picks]

    def start(self, state: TrainerState) -> None:
        """A run begins from its first step."""

    def resume(self, state: TrainerState, saved: dict[str, Any]) -> None:
        """A run goes on from a checkpoint whose settings are those of this attachment."""

    def before_epoch(self, epoch: int) -> None:
        """Before the data loader is asked for the epoch's first batch."""

    def on_train_begin(self, state: TrainerState) -> None:
        """Starts or resumes."""
        if not self._in_use:
            raise RuntimeError(
                "This trainer builds its training data loader without asking for a training sampler, so the attached "
                f"selection would be ignored: {INSTEAD}."
            )
        self.epoch = None
        if state.global_step == 0:
            self.start(state)
            return
        saved = self._saved(state)
        self.resume(state, saved)
        # The Trainer writes only the states of callbacks that it finds in the checkpoint it resumed.
        states: Any = state.stateful_callbacks
        states[STATE_NAME] = self._exported()

    def on_epoch_begin(self, state: TrainerState) -> None:
        """Counts epochs as the Trainer does."""
        # Counted from the first, since an epoch that a callback cut short leaves state.epoch where it was cut.
        self.epoch = int(state.epoch or 0) if self.epoch is None else self.epoch + 1
        self.before_epoch(self.epoch)
        # A run resumed in mid-epoch on several processes walks SkipBatchSampler > BatchSamplerShard > BatchSampler, one
        # level deeper than the Trainer and accelerate reach with set_epoch: it would repeat the order of epoch 0.
        self.sampler.set_epoch(self.epoch)

    def _exported(self) -> dict[str, Any]:
        # The Trainer may rebuild a callback from `args` and `attributes` alone, so there are none.
        return {"args": {}, "attributes": {}, "selection": self.state()}

    def _saved(self, state: TrainerState) -> dict[str, Any]:
        states: Any = state.stateful_callbacks
        exported = states.get(STATE_NAME)
        advice = (
            "Attach what it was trained with, or start a new run from its weights: load them as the model and call "
            "train() without resume_from_checkpoint."
        )
        if exported is None:
            raise ValueError(
                f"This checkpoint (step {state.global_step}) was saved without an attached selection. {advice}"
            )
        saved: dict[str, Any] = exported["selection"]
        mine = json.loads(json.dumps(self.settings))
        differing = [key for key in mine if mine[key] != saved.get(key)]
        if "kind" in differing:
            differing = ["kind"]  # everything else differs with it
        if differing:
            said = ", ".join(f"{key} {saved.get(key)!r} (here {mine[key]!r})" for key in differing)
            raise ValueError(
                f"This checkpoint (step {state.global_step}) was trained on another selection than the one attached "
                f"now: {said}. {advice}"
            )
        return saved


class SelectionCallback(TrainerCallback, ExportableState):
    """Tells an attachment of training and epochs, and the checkpoint of the attachment."""

    attachment: ClassVar[Attachment]

    def state(self) -> dict[str, Any]:
        """What the Trainer writes into `trainer_state.json`."""
        return self.attachment._exported()

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Starts or resumes."""
        self.attachment.on_train_begin(state)

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Fires before the data loader is asked for the epoch's first batch."""
        self.attachment.on_epoch_begin(state)


def _callback(attachment: Attachment) -> SelectionCallback:
    # With restore_callback_states_from_checkpoint=True the Trainer calls the callback's class again and puts the new
    # object in the old one's place. A class of its own for each trainer keeps that object bound to the same attachment.
    bound: type[SelectionCallback] = type(STATE_NAME, (SelectionCallback,), {"attachment": attachment})
    return bound()


class SelectionBatchSampler(BatchSampler):
    """Batches of picks for a trainer that asks for batches; passes the epoch on.

    Args:
        sampler (`SelectionSampler`):
            The picks.
        batch_size (`int`):
            Rows in a batch.
        drop_last (`bool`):
            Whether a last, smaller batch is left out.
    """

    sampler: SelectionSampler

    def __init__(self, sampler: SelectionSampler, batch_size: int, drop_last: bool) -> None:
        super().__init__(sampler, batch_size, drop_last)

    def set_epoch(self, epoch: int) -> None:
        """See `SelectionSampler.set_epoch`."""
        self.sampler.set_epoch(epoch)


def attachment_of(trainer: Trainer) -> Attachment | None:
    """What is attached to a trainer, if anything is."""
    bound = (one for one in trainer.callback_handler.callbacks if isinstance(one, SelectionCallback))
    return next((callback.attachment for callback in bound), None)


def seed_of(trainer: Trainer, seed: int | None) -> int:
    """The seed asked for, else the trainer's `data_seed`, else its `seed`."""
    fallback = trainer.args.seed if trainer.args.data_seed is None else trainer.args.data_seed
    return fallback if seed is None else seed
