"""Training on exactly the picks with a trainer that packs rows: the picks are taken before rows are packed."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import datasets

from itl_hf.selection.selector import Selector
from itl_hf.training.pick_positions import check_text, pick_positions
from itl_hf.training.sampler import row_numbers, training_dataset_of

if TYPE_CHECKING:
    from itl_hf.training.sampler import SelectionOrIndices


def rows_to_pack(
    selection: SelectionOrIndices | Selector, pool: Any, selection_options: dict[str, Any] | None
) -> datasets.Dataset:
    """Returns the picked rows of a pool, best first, for a trainer that packs the rows it gets.

    Args:
        selection ([`Selection`], row numbers or [`Selector`]):
            What the trainer was built with. A selector is refused.
        pool (`Dataset`):
            The trainer's `train_dataset`.
        selection_options (`dict`, *optional*):
            Arguments of `attach`, which would have no effect and are refused.

    Raises:
        `ValueError`: If the picks are not rows of the pool, or change between epochs.
    """
    if isinstance(selection, Selector):
        raise ValueError(
            "With packing=True rows are packed once, so picks cannot change between epochs: pass a selection."
        )
    if selection_options:
        raise ValueError(
            f"With packing=True the trainer decides the order of the packs: leave out {', '.join(selection_options)}."
        )
    if not isinstance(pool, datasets.Dataset):
        raise ValueError(f"With packing=True train_dataset= must be a datasets.Dataset, not {type(pool).__name__}.")
    picks = row_numbers(selection)  # (n,)
    before_packing: Any = SimpleNamespace(train_dataset=pool, args=None)  # what the checks read of a trainer
    positions = pick_positions(before_packing, picks, selection)  # (n,)
    check_text(before_packing, positions, training_dataset_of(selection))
    return pool.select(positions)
