"""The datasets of `itl-hf train`: the pool, the targets and the rows to evaluate on, loaded when they are needed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from itl_hf.cli.train_arguments import SelectionArguments

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import DatasetMixtureConfig, ScriptArguments


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """Loads the pool, the targets and the evaluation rows when they are needed.

    Args:
        picking (`SelectionArguments`):
            The targets, and the rows to evaluate on.
        script (`trl.ScriptArguments`):
            The pool, and the names of its splits.
        mixture (`trl.DatasetMixtureConfig`, *optional*):
            A pool of several datasets instead.

    Raises:
        `ValueError`: If a dataset is to be streamed.
    """

    picking: SelectionArguments
    script: ScriptArguments
    mixture: DatasetMixtureConfig | None

    def __post_init__(self) -> None:
        if self.script.dataset_streaming or (self.mixture is not None and self.mixture.streaming):
            raise ValueError("a streamed dataset has no row numbers to pick: leave out dataset_streaming and streaming")

    @property
    def name(self) -> str | None:
        """Name of the pool; `None` if there is none."""
        return "datasets" if self.mixture is not None and self.mixture.datasets else self.script.dataset_name

    def pool(self) -> Dataset:
        """Loads the rows to pick from."""
        return self._split(self.script.dataset_train_split)

    def targets(self) -> Dataset:
        """Loads the task's prompts."""
        from itl_hf.cli.load_rows import load_rows

        return load_rows(str(self.picking.targets), self.picking.targets_split, self.picking.targets_config)

    def held_out(self) -> Dataset:
        """Loads the rows to evaluate on.

        Raises:
            `ValueError`: If none are named, and the pool has no splits.
        """
        from itl_hf.cli.load_rows import DEFAULT_SPLIT, is_file_name, load_rows

        name, split = self.picking.eval_dataset_name, self.script.dataset_test_split
        if name is not None:
            # TRL's own default is the split "test", which a file does not have.
            return load_rows(name, DEFAULT_SPLIT if split == "test" and is_file_name(name) else split)
        if self.name is None or Path(self.name).is_file():
            raise ValueError("eval_strategy needs rows to evaluate on: add --eval_dataset_name (a file has no splits)")
        return self._split(self.script.dataset_test_split)

    def _split(self, split: str) -> Dataset:
        from itl_hf.cli.load_rows import load_rows

        if self.mixture is None or not self.mixture.datasets:
            return load_rows(str(self.script.dataset_name), split, self.script.dataset_config)
        from trl import get_dataset

        splits = get_dataset(self.mixture)
        if split not in splits:
            raise ValueError(f"the mixture of datasets has no split {split!r}; its splits are {list(splits)}")
        return splits[split]
