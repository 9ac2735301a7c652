"""`SelectionTrainerMixin`: a Trainer class that takes a selection as an argument, instead of a call of `attach`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import datasets
from transformers import TrainingArguments

from itl_hf.training.attach_trainer import attach
from itl_hf.training.packed_picks import rows_to_pack
from itl_hf.training.pick_positions import ID_COLUMN

if TYPE_CHECKING:
    from itl_hf.selection.selector import Selector
    from itl_hf.training.sampler import SelectionOrIndices


class SelectionTrainerMixin:
    """Adds `selection=` and `selection_options=` to a Trainer class and passes all other arguments on.

    Unlike `attach`, it gets the training dataset before the trainer prepares it. It therefore adds the id column by
    itself, with which picks are found after the trainer dropped or shuffled rows, and active rounds embed the rows as
    they were passed. With `packing=True` it takes the picked rows before the trainer packs them: the packs then hold
    the picks and nothing else, in an order that the trainer decides. (Pass `train_dataset` as a keyword argument for
    all of that.)

    Args:
        *args:
            Arguments of the Trainer class.
        selection ([`Selection`], row numbers or [`Selector`], *optional*):
            The second argument of `attach`. Without it the class is the plain Trainer.
        selection_options (`dict`, *optional*):
            Further arguments of `attach`, such as `{"order": "shuffled"}`.
        **kwargs:
            Arguments of the Trainer class.

    Example:
        >>> from transformers import Trainer
        >>> class SelectionTrainer(SelectionTrainerMixin, Trainer):
        ...     pass
        >>> trainer = SelectionTrainer(model, train_dataset=pool, selection=selection)  # doctest: +SKIP
    """

    def __init__(
        self,
        *args: Any,
        selection: SelectionOrIndices | Selector | None = None,
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
        if any(getattr(value, "packing", False) is True for value in (*args, *kwargs.values())):
            kwargs["train_dataset"] = rows_to_pack(selection, pool, selection_options)
            super().__init__(*args, **kwargs)
            return
        if isinstance(pool, datasets.Dataset) and self._can_add_id_column(pool, [*args, *kwargs.values()]):
            kwargs["train_dataset"] = pool.add_column(ID_COLUMN, list(range(len(pool))))
        super().__init__(*args, **kwargs)
        options = dict(selection_options or {})
        if isinstance(selection, Selector) and pool is not None:
            options.setdefault("pool", pool)
        attach(self, selection, **options)  # type: ignore[type-var]

    def _can_add_id_column(self, pool: datasets.Dataset, trainer_arguments: list[Any]) -> bool:
        # A trainer that does not remove unused columns, or whose model reads all columns (sentence-transformers), would
        # pass the id column to the model.
        training_arguments = (value for value in trainer_arguments if isinstance(value, TrainingArguments))
        removes_columns = all(arguments.remove_unused_columns for arguments in training_arguments)
        return ID_COLUMN not in pool.column_names and removes_columns and not hasattr(self, "get_batch_sampler")
