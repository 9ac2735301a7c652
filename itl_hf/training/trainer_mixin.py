"""A Trainer class that takes a selection as an argument, for those who would rather subclass than call `attach`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import datasets
from transformers import TrainingArguments

from itl_hf.training.attach_trainer import attach
from itl_hf.training.pick_positions import ID_COLUMN

if TYPE_CHECKING:
    from itl_hf.selection.selector import Selector
    from itl_hf.training.sampler import Picks


class SelectionTrainerMixin:
    """Adds `selection=` and `selection_options=` to a Trainer class; everything else is the Trainer's.

    Unlike `attach`, it sees the training dataset before the trainer prepares it: rows that are dropped or shuffled on
    the way are followed without an id column of your own, and active rounds embed the rows as they were given. (Pass
    `train_dataset` by its name for that.)

    Args:
        *args:
            The Trainer's own.
        selection ([`Selection`], row numbers or [`Selector`], *optional*):
            What `attach` takes as its second argument. Without it the class is the plain Trainer.
        selection_options (`dict`, *optional*):
            Further arguments of `attach`, such as `{"order": "shuffled"}`.
        **kwargs:
            The Trainer's own.

    Example:
        >>> from transformers import Trainer
        >>> class SelectionTrainer(SelectionTrainerMixin, Trainer):
        ...     pass
        >>> trainer = SelectionTrainer(model, train_dataset=pool, selection=selection)  # doctest: +SKIP
    """

    def __init__(
        self,
        *args: Any,
        selection: Picks | Selector | None = None,
        selection_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        from itl_hf.selection.selector import Selector

        if selection is None:
            if selection_options:
                raise TypeError("selection_options were given without a selection.")
            super().__init__(*args, **kwargs)
            return
        pool = kwargs.get("train_dataset")
        if isinstance(pool, datasets.Dataset) and self._may_number(pool, [*args, *kwargs.values()]):
            kwargs["train_dataset"] = pool.add_column(ID_COLUMN, list(range(len(pool))))
        super().__init__(*args, **kwargs)
        options = dict(selection_options or {})
        if isinstance(selection, Selector) and pool is not None:
            options.setdefault("pool", pool)
        attach(self, selection, **options)  # type: ignore[type-var]

    def _may_number(self, pool: datasets.Dataset, given: list[Any]) -> bool:
        # Where columns are not removed, or all of them are inputs (sentence-transformers), a further one would be read.
        arguments = (value for value in given if isinstance(value, TrainingArguments))
        removed = all(value.remove_unused_columns for value in arguments)
        return ID_COLUMN not in pool.column_names and removed and not hasattr(self, "get_batch_sampler")
