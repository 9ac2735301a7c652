"""Normalised loss drop: rows whose loss falls most when the model is trained on the targets."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.search.greedy import GreedyPicks
from itl_hf.selection.baselines.ranking import rank_rows
from itl_hf.selection.protocol import Noise, SelectionRequest, picks_in_order

#: Added to the loss that is divided by, as in the authors' code.
SMALLEST = 1e-8


@dataclass(frozen=True)
class LossDrop:
    """Picks the rows whose loss falls by the largest share in a short training on labelled targets.

    The score of a row is (before - after) / (before + 1e-8), with the mean loss of its response before and after that
    training. Both are given: `recipes/learnability` computes them in two forward passes over the pool.

    Source: Yang, He & Cheng, "Let the Target Select for Itself: Data Selection via Target-Aligned Paths" (arXiv
    2605.09404), sections 3 and 4. There `before` is measured after the first step of a LoRA training of rank one on the
    targets, and its learning rate and length are chosen on held-out targets.

    Args:
        before (`Sequence[float]`):
            (N,) loss of each row before the training, 0 or positive.
        after (`Sequence[float]`):
            (N,) loss of each row after the training, 0 or positive.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Raises:
        `ValueError`: If losses are missing, negative, infinite or NaN (the row is named), or the two differ in length.

    Example:
        >>> from itl_hf import select_rows
        >>> from itl_hf.selection.baselines import LossDrop
        >>> drop = LossDrop(before=[2.0, 4.0, 1.0], after=[1.5, 1.0, 1.2])
        >>> select_rows([[1.0], [2.0], [4.0]], [[1.0]], 2, acquisition=drop).indices
        array([1, 0])
    """

    before: Sequence[float] | None = dataclasses.field(default=None, repr=False)
    after: Sequence[float] | None = dataclasses.field(default=None, repr=False)
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "loss_drop"

    def __post_init__(self) -> None:
        if self.before is None or self.after is None:
            raise ValueError(
                "loss_drop ranks rows by losses measured before and after a training on the targets: give "
                "LossDrop(before=..., after=...), a number for each row of the pool; recipes/learnability measures them"
            )
        losses = {name: _losses(name, getattr(self, name)) for name in ("before", "after")}
        if len(losses["before"]) != len(losses["after"]):
            raise ValueError(
                f"loss_drop: before has {len(losses['before'])} losses and after {len(losses['after'])}; "
                "both must have one for each row of the pool"
            )
        for name, values in losses.items():
            object.__setattr__(self, name, values)

    def check_sizes(self, num_rows: int, num_targets: int) -> None:
        """Raises `ValueError` unless there are losses of every row."""
        if len(self.before or ()) != num_rows:
            raise ValueError(
                f"loss_drop: before and after must hold a loss for each of {num_rows} rows of the pool, got "
                f"{len(self.before or ())}"
            )

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks the rows with the best scores; ties go to the lowest row number."""
        before, after = (torch.tensor(losses, dtype=torch.float64) for losses in (self.before, self.after))
        scores = (before - after) / (before + SMALLEST)  # (N,)
        return picks_in_order(rank_rows(scores, request.exclude), pool, gp, request)


def _losses(name: str, values: Sequence[float]) -> tuple[float, ...]:
    losses = np.asarray(values, dtype=np.float64)
    if losses.ndim != 1:
        raise ValueError(f"loss_drop: {name} must hold one loss for each row, got an array of shape {losses.shape}")
    wrong_rows = np.flatnonzero(~(np.isfinite(losses) & (losses >= 0)))
    if wrong_rows.size:
        raise ValueError(
            f"loss_drop: {name} of row {wrong_rows[0]} is {losses[wrong_rows[0]]}; a loss is 0 or positive and finite. "
            "A row without an answer has none: drop it from the pool."
        )
    numbers: tuple[float, ...] = tuple(losses.tolist())
    return numbers
