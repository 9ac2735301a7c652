r"""`VerlSelectionSampler`: trains on a selection in verl, named in its configuration.

    data.train_files=pool.parquet data.dataloader_num_workers=0 \
    data.sampler.class_path=pkg://itl_hf.training.verl_sampler data.sampler.class_name=VerlSelectionSampler \
    +data.sampler.selection=selected +data.sampler.order=shuffled

verl 0.5 to 0.7 build the class with their dataset and their section `data`
(`verl.experimental.dataset.sampler.AbstractSampler`). The train files are the pool that was selected from, row for row;
where verl drops rows because their prompts are too long, the others are found by `extra_info.index`, the row number,
which verl's own scripts write.

SkyRL, later versions of verl, and other trainers with a fixed sampler have no such entry: give them the file of
`itl-hf export --format verl`, or build their data loader with `SelectionSampler`.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from torch.utils.data import Sampler

from itl_hf.selection.result.selection import Selection
from itl_hf.training.pick_positions import check_text
from itl_hf.training.sampler import SelectionSampler, nearest_targets_of

if TYPE_CHECKING:
    _Base = Sampler[int]
else:
    try:  # verl asserts that a sampler is one of its own class
        from verl.experimental.dataset.sampler import AbstractSampler as _Base
    except ImportError:
        _Base = Sampler

OPTIONS = ("class_path", "class_name", "selection", "order", "seed")


class VerlSelectionSampler(_Base):
    """Yields the positions of the picks in verl's dataset; each pass is one epoch.

    Args:
        data_source (`Sized`):
            verl's dataset. Its attribute `dataframe` (a `datasets.Dataset`) is read where there is one.
        data_config (`Mapping`):
            verl's section `data`: in its section `sampler` the folder of the `selection`, the `order` and the `seed` of
            [`SelectionSampler`]; the seed of the section `data` if there is none.

    Raises:
        `ValueError`: If an option is missing or unknown, or the dataset is not the pool that was selected from.

    Example:
        >>> config = {"seed": 1, "sampler": {"selection": "selected", "order": "shuffled"}}
        >>> sampler = VerlSelectionSampler(data_source=pool, data_config=config)
        >>> len(sampler) == len(selection)
        True
    """

    def __init__(self, data_source: Any, data_config: Any) -> None:
        options = data_config.get("sampler") or {}
        unknown = sorted(set(options) - set(OPTIONS))
        if unknown or options.get("selection") is None:
            problem = (
                f"has no option {unknown[0]!r}" if unknown else "needs selection=, the folder of a saved selection"
            )
            raise ValueError(f"data.sampler {problem}; its options are {', '.join(OPTIONS)}")
        selection = Selection.load(str(options["selection"]))
        positions, is_there = _positions(data_source, selection)  # (n,), (n,)
        nearest = nearest_targets_of(selection)
        seed = options.get("seed", data_config.get("seed"))
        self._sampler = SelectionSampler(
            positions[is_there],
            options.get("order", "gain"),
            0 if seed is None else seed,
            nearest_targets=None if nearest is None else nearest[is_there],
        )

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[int]:
        yield from self._sampler
        self._sampler.set_epoch(self._sampler.epoch + 1)  # verl has no call that says which epoch begins

    def state_dict(self) -> dict[str, Any]:
        """Returns what a stateful data loader saves in a checkpoint."""
        return self._sampler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resumes in the middle of an epoch; see [`SelectionSampler`]."""
        self._sampler.load_state_dict(state_dict)


def _positions(data_source: Any, selection: Selection) -> tuple[np.ndarray, np.ndarray]:
    """Returns the position of each pick in the dataset, (n,), and which picks are in it, (n,) bool."""
    numbers, frame = selection.training_indices, getattr(data_source, "dataframe", data_source)
    positions = numbers
    if len(data_source) != selection.pool_size:
        positions = _by_index(frame, numbers, len(data_source), selection.pool_size)
    is_there = positions >= 0
    if not is_there.any():
        raise ValueError("none of the picks is in data.train_files any more: are the prompts longer than verl allows?")
    if not is_there.all():
        warnings.warn(
            f"{int((~is_there).sum())} of the {len(numbers)} picks are not in verl's dataset, which drops long prompts "
            "(data.filter_overlong_prompts). Training goes on without them.",
            stacklevel=4,
        )
    holder: Any = SimpleNamespace(train_dataset=frame)
    check_text(holder, positions, selection.training_dataset)
    return positions, is_there


def _by_index(frame: Any, numbers: np.ndarray, num_rows: int, pool_size: int) -> np.ndarray:
    """Returns the positions of the rows whose `extra_info.index` is one of these numbers, (n,); -1 for none."""
    names = getattr(frame, "column_names", None) or ()
    infos = frame["extra_info"][:] if "extra_info" in names else []
    indices = [info.get("index") if isinstance(info, dict) else None for info in infos]
    if not indices or len(set(indices)) != len(indices) or not all(isinstance(index, int) for index in indices):
        raise ValueError(
            f"verl's dataset has {num_rows} rows and the pool that was selected from {pool_size}, and its rows have no "
            "row numbers (extra_info.index, different for every row) to find the picks by. Pass the pool itself as "
            "data.train_files with data.filter_overlong_prompts=False, or train on the file of itl-hf export "
            "--format verl without a sampler"
        )
    place_of = {index: place for place, index in enumerate(indices)}
    return np.array([place_of.get(int(number), -1) for number in numbers], dtype=np.int64)
