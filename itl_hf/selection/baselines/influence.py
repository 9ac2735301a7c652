"""LESS: influence measured with gradients."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import weighted_mean
from itl_hf.search.greedy import GreedyPicks
from itl_hf.selection.baselines.ranking import pool_scores, rank_rows, unit, without_rounding
from itl_hf.selection.protocol import Noise, Reads, SelectionRequest, picks_in_order


@dataclass(frozen=True)
class LESS:
    """Picks the rows whose gradient is most similar to that of a target.

    The score of a row is max_j sum_i eta_i 1/|j| sum_{a in j} cos_i(x, a).

    Source: Xia et al., "LESS: Selecting Influential Data for Targeted Instruction Tuning" (ICML 2024), equation 3 and
    section 4.3: i runs over checkpoints with learning rates eta_i, j over subtasks of the targets, within which cosines
    are averaged as in the authors' code. For it the features must be sketched gradients (`Gradients`; Adam's for the
    pool, plain ones for the targets). They are used as the embedder returned them, whatever `standardize` is: a step
    along a gradient lowers a loss by the inner product of the two gradients, so angles are measured from the origin and
    not from the pool's mean. This is the only difference to `MaxSimilarity`; with features other than gradients there
    is no reason for it.

    Args:
        subtasks (`Sequence`, *optional*):
            (m,) a label for each target; by default each target is a subtask of its own. Weights of targets are those
            of the mean within a subtask, and are refused without subtasks: copies of a target do not change a maximum.
        learning_rates (`Sequence[float]`, *optional*, defaults to `(1.0,)`):
            Learning rates of the checkpoints whose features are concatenated in a row, each of the same width.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[3.0, 3.0], [1.0, 0.1], [0.0, 5.0]]
        >>> select_rows(rows, [[1.0, 0.0], [0.5, 1.0]], 2, acquisition="less").indices
        array([1, 0])
    """

    subtasks: Sequence[Hashable] | None = None
    learning_rates: Sequence[float] = (1.0,)
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "less"
    reads: ClassVar[Reads] = "raw features"

    def __post_init__(self) -> None:
        rates = tuple(float(rate) for rate in self.learning_rates)
        if not rates or not all(0 < rate < math.inf for rate in rates):
            raise ValueError(f"learning_rates must be positive and finite, one a checkpoint, got {self.learning_rates}")
        object.__setattr__(self, "learning_rates", rates)
        if self.subtasks is not None:
            object.__setattr__(self, "subtasks", tuple(self.subtasks))

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks the rows with the best scores; ties go to the lowest row number."""
        if request.raw is None:
            raise ValueError("less reads the features before preparation: SelectionRequest.raw must hold them")
        anchors = self._anchors(request.raw.targets.to(pool.device).double(), gp.target_weights)  # (subtasks, d)

        def score(rows: Tensor) -> Tensor:
            return (self._unit_by_checkpoint(rows) @ anchors.T).amax(1)

        scores = without_rounding(pool_scores(Pool(pool.source), score), sum(self.learning_rates))
        return picks_in_order(rank_rows(scores, request.exclude), pool, gp, request)

    @property
    def weighs_targets(self) -> bool:
        """Whether weights of targets are used: in the means over subtasks, and not where each target is its own."""
        return self.subtasks is not None

    def _anchors(self, targets: Tensor, weights: Tensor | None) -> Tensor:
        """Averages unit features, weighted by learning rates, over each subtask, (m, d) -> (subtasks, d)."""
        if targets.shape[1] % len(self.learning_rates):
            raise ValueError(
                f"learning_rates: rows of {targets.shape[1]} features are not {len(self.learning_rates)} checkpoints"
            )
        width = targets.shape[1] // len(self.learning_rates)
        rates = torch.tensor(self.learning_rates, dtype=torch.float64, device=targets.device)
        weighted_rows = self._unit_by_checkpoint(targets) * rates.repeat_interleave(width)
        if self.subtasks is None:
            return weighted_rows
        if len(self.subtasks) != len(targets):
            raise ValueError(f"subtasks must hold a label for each of {len(targets)} targets, got {len(self.subtasks)}")
        labels = list(dict.fromkeys(self.subtasks))
        member = torch.tensor([labels.index(label) for label in self.subtasks], device=targets.device)
        groups = [member == number for number in range(len(labels))]
        return torch.stack(
            [weighted_mean(weighted_rows[of], None if weights is None else weights[of]) for of in groups]
        )

    def _unit_by_checkpoint(self, rows: Tensor) -> Tensor:
        return torch.cat([unit(part) for part in rows.chunk(len(self.learning_rates), dim=1)], dim=1)
