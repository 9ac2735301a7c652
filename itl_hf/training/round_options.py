"""`RoundOptions`: what is selected in each active round, and the checks of it before training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf.selection.constraints import SelectionConstraints
from itl_hf.selection.row_weights import RowNumbers
from itl_hf.training.sampler import rows_digest, whole_number

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor
    from transformers import Trainer


@dataclasses.dataclass(frozen=True)
class RoundOptions:
    """What is selected in each active round.

    Args:
        pool (`Dataset`):
            The `N` rows of the pool as text.
        targets (`Dataset`):
            The rows of the task as text.
        positions (`np.ndarray`):
            Shape `(N,)`, the position of each row of the pool in the trainer's dataset; -1 for rows that the trainer
            dropped.
        examples_per_round (`int`):
            Number of rows to pick in each round.
        candidates_per_round (`int`, *optional*):
            Number of randomly drawn rows to pick from; all rows if left out.
        already_selected (`tuple[int, ...]`):
            Rows of the pool that the model was trained on before.
        constraints (`SelectionConstraints`):
            What the picks must keep to, with row numbers and labels of the whole pool.
        constraints_json (`dict`):
            The constraints as checkpoints store them.
        numbers (`RowNumbers`):
            Quality of the pool's rows and weights of the targets.
    """

    pool: Dataset
    targets: Dataset
    positions: np.ndarray
    examples_per_round: int
    candidates_per_round: int | None = None
    already_selected: tuple[int, ...] = ()
    constraints: SelectionConstraints = dataclasses.field(default_factory=SelectionConstraints)
    constraints_json: dict[str, Any] = dataclasses.field(default_factory=dict)
    numbers: RowNumbers = dataclasses.field(default_factory=RowNumbers)

    def round_quality(self, rows: np.ndarray) -> Tensor | None:
        """Returns the quality of these rows of the pool, shape `(R,)`."""
        return None if self.numbers.quality is None else self.numbers.quality[rows]

    def numbers_digests(self) -> dict[str, str]:
        """Returns short hashes of the quality and the weights that were given, by name."""
        numbers = {"quality": self.numbers.quality, "target_weights": self.numbers.target_weights}
        # The bits of the numbers, which `rows_digest` takes for whole numbers.
        return {name: rows_digest(one.numpy().view(np.int64)) for name, one in numbers.items() if one is not None}

    def available_rows(self, trained_rows: list[int]) -> np.ndarray:
        """Returns the rows of the pool that may be picked next, ascending."""
        excluded_rows = self.constraints.excluded_rows(len(self.pool))
        usable = np.setdiff1d(np.flatnonzero(self.positions >= 0), np.asarray(excluded_rows, dtype=np.int64))
        return usable if self.constraints.replace else np.setdiff1d(usable, np.asarray(trained_rows, dtype=np.int64))

    def round_constraints(self, rows: np.ndarray) -> SelectionConstraints:
        """Returns the constraints of a selection from these rows of the pool, shape `(R,)`; excluded rows are not
        among them.
        """
        groups = self.constraints.groups
        labels = None if groups is None else [groups[int(row)] for row in rows]
        return dataclasses.replace(self.constraints, exclude=(), groups=labels)


def check_round_options(trainer: Trainer, options: RoundOptions) -> None:
    """Checks the numbers of the options, and that every process holds the whole model.

    Raises:
        `ValueError`: If a number is not possible, or if the model is sharded over processes.
    """
    for name in ("examples_per_round", "candidates_per_round"):
        if getattr(options, name) is not None:
            whole_number(getattr(options, name), name, minimum=1)
    if options.constraints.token_budget is not None or options.constraints.stop_when is not None:
        raise ValueError(
            f"Every round has examples_per_round={options.examples_per_round} picks, so a token_budget or stop_when, "
            "which may end a round early, cannot be kept. Select once with them before training, and attach that "
            "selection."
        )
    options.constraints.availability(options.examples_per_round, len(options.pool))
    num_candidates = options.candidates_per_round
    if num_candidates is not None and num_candidates < options.examples_per_round:
        raise ValueError(
            f"candidates_per_round={num_candidates} is less than examples_per_round={options.examples_per_round}: "
            "there would be nothing to choose."
        )
    is_zero3 = trainer.is_deepspeed_enabled and trainer.accelerator.deepspeed_plugin.zero_stage == 3
    if trainer.is_fsdp_enabled or is_zero3:
        raise ValueError(
            "Active rounds embed with the model in training, which FSDP and DeepSpeed ZeRO-3 shard over processes. "
            "Train with DDP or ZeRO-2, or select once before training and attach that selection."
        )
