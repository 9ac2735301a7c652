"""LESS: influence measured with gradients, and what the baselines on gradients share."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import weighted_mean
from itl_hf.search.greedy import GreedyPicks
from itl_hf.selection.baselines.ranking import NearestRows, pool_scores, rank_rows, turns, unit, without_rounding
from itl_hf.selection.protocol import (
    Noise,
    Raw,
    Reads,
    SelectionRequest,
    measure_picks,
    picks_in_order,
    repeat_picks,
)


def check_rates(rates: Sequence[float]) -> tuple[float, ...]:
    """Returns the learning rates of the checkpoints as floats.

    Raises:
        `ValueError`: If there is none, or one is not positive and finite.
    """
    numbers = tuple(float(rate) for rate in rates)
    if not numbers or not all(0 < rate < math.inf for rate in numbers):
        raise ValueError(f"learning_rates must be positive and finite, one a checkpoint, got {rates}")
    return numbers


def raw_targets(acquisition: Any, request: SelectionRequest, num_checkpoints: int, pool: Pool) -> Tensor:
    """Returns the targets' features before preparation, (m, d) float64.

    Raises:
        `ValueError`: If the request does not hold them, or d is no multiple of the number of checkpoints.
    """
    raw: Raw | None = request.raw
    if raw is None:
        raise ValueError(
            f"{acquisition.name} reads the features before preparation: SelectionRequest.raw must hold them"
        )
    if raw.targets.shape[1] % num_checkpoints:
        raise ValueError(
            f"learning_rates: rows of {raw.targets.shape[1]} features are not {num_checkpoints} checkpoints"
        )
    return raw.targets.to(pool.device).double()


def by_checkpoint(rows: Tensor, scale: Callable[[Tensor, int], Tensor], num_checkpoints: int) -> Tensor:
    """Applies a map to the features of each checkpoint, (B, d) -> (B, sum of the maps' widths)."""
    return torch.cat([scale(part, number) for number, part in enumerate(rows.chunk(num_checkpoints, dim=1))], dim=1)


@dataclass(frozen=True)
class Influence:
    """The fields and the influence sum_i eta_i 1/|j| sum_{a in j} cos_i(x, a) that LESS and its variants share."""

    subtasks: Sequence[Hashable] | None = None
    learning_rates: Sequence[float] = (1.0,)
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "influence"
    reads: ClassVar[Reads] = "raw features"

    def __post_init__(self) -> None:
        object.__setattr__(self, "learning_rates", check_rates(self.learning_rates))
        if self.subtasks is not None:
            object.__setattr__(self, "subtasks", tuple(self.subtasks))

    def check_sizes(self, num_rows: int, num_targets: int) -> None:
        """Raises `ValueError` unless there is a label for each target."""
        if self.subtasks is not None and len(self.subtasks) != num_targets:
            raise ValueError(f"subtasks must hold a label for each of {num_targets} targets, got {len(self.subtasks)}")

    def similarity(
        self, pool: Pool, request: SelectionRequest, weights: Tensor | None
    ) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Returns a map of rows, (B, d) -> (B, k), and anchors, (subtasks, k); their inner products are influences.

        `weights` are those of the targets, (m,).
        """
        num_checkpoints = len(self.learning_rates)
        targets = raw_targets(self, request, num_checkpoints, pool)
        anchors = self.mean_of_subtasks(self.scale_by_rates(by_checkpoint(targets, _unit, num_checkpoints)), weights)
        return lambda rows: by_checkpoint(rows, _unit, num_checkpoints), anchors

    def scale_by_rates(self, rows: Tensor) -> Tensor:
        """Multiplies the features of each checkpoint by its learning rate, (m, d)."""
        return by_checkpoint(rows, lambda part, number: part * self.learning_rates[number], len(self.learning_rates))

    def mean_of_subtasks(self, rows: Tensor, weights: Tensor | None) -> Tensor:
        """Averages the targets' rows over each subtask, weighted by `weights`, (m, d), (m,) -> (subtasks, d)."""
        if self.subtasks is None:
            return rows
        groups = self.members(rows.device)
        return torch.stack([weighted_mean(rows[of], None if weights is None else weights[of]) for of in groups])

    def members(self, device: torch.device) -> list[Tensor]:
        """Returns which targets each subtask has, (m,) bool, in the order of their first targets."""
        labels = list(dict.fromkeys(self.subtasks or ()))
        member = torch.tensor([labels.index(label) for label in self.subtasks or ()], device=device)
        return [member == number for number in range(len(labels))]

    def rank_by_largest(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks the rows with the largest influence on any subtask; ties go to the lowest row number."""
        features, anchors = self.similarity(pool, request, gp.target_weights)
        scores = pool_scores(Pool(pool.source, device=pool.device), lambda rows: (features(rows) @ anchors.T).amax(1))
        order = rank_rows(without_rounding(scores, sum(self.learning_rates)), request.exclude)
        return picks_in_order(order, pool, gp, request)


@dataclass(frozen=True)
class LESS(Influence):
    """Picks the rows whose gradient is most similar to that of a target.

    The score of a row is max_j sum_i eta_i 1/|j| sum_{a in j} cos_i(x, a).

    Source: Xia et al., "LESS: Selecting Influential Data for Targeted Instruction Tuning" (ICML 2024), equation 3 and
    section 4.3: i runs over checkpoints with learning rates eta_i, j over subtasks of the targets, within which cosines
    are averaged as in the authors' code. For it the features must be sketched gradients (`Gradients`; Adam's for the
    pool, plain ones for the targets). They are used as the embedder returned them, whatever `standardize` is: a step
    along a gradient lowers a loss by the inner product of the two gradients, so angles are measured from the origin and
    not from the pool's mean. This is the only difference to `MaxSimilarity`; with features other than gradients there
    is no reason for it.

    Without `subtasks` it is also the "doubly greedy" selection of Nayak et al., "A Critical Look at Targeted
    Instruction Selection" (ICML 2026, arXiv 2602.14696; `selection/doubly_greedy.py` of their code): the rows by
    falling similarity to their most similar target. `"doubly_greedy"` is another name of this acquisition.

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

    name: str = "less"

    @property
    def weighs_targets(self) -> bool:
        """Whether weights of targets are used: in the means over subtasks, and not where each target is its own."""
        return self.subtasks is not None

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks the rows with the best scores; ties go to the lowest row number."""
        return self.rank_by_largest(pool, gp, request)


@dataclass(frozen=True)
class LESSRoundRobin(Influence):
    """Picks, for each target in turn, the row with the largest influence on it that is not picked yet.

    The influence is that of `LESS`, sum_i eta_i cos_i(x, a); only the rule differs, so that no target is left without
    rows. Source: Nayak et al., "A Critical Look at Targeted Instruction Selection" (ICML 2026, arXiv 2602.14696;
    `selection/round_robin.py` of their code). The turns follow the order of the targets, or of the first target of each
    subtask; a continued selection continues with the one whose turn is next.

    Args:
        subtasks (`Sequence`, *optional*):
            (m,) a label for each target, if subtasks are to take turns; by default each target has its own turn.
        learning_rates (`Sequence[float]`, *optional*, defaults to `(1.0,)`):
            As in `LESS`.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[3.0, 3.0], [1.0, 0.1], [0.0, 5.0], [1.0, 0.2]]
        >>> select_rows(rows, [[1.0, 0.0], [0.0, 1.0]], 3, acquisition="less_round_robin").indices
        array([1, 2, 3])
    """

    name: str = "less_round_robin"
    weighs_targets: ClassVar[bool] = True

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Takes turns over lists of the rows with the largest influence."""
        weights = gp.target_weights
        features, anchors = self.similarity(pool, request, weights)
        if weights is not None and self.subtasks is not None:  # a subtask has the turns of all its targets
            weights = torch.stack([weights[of].sum() for of in self.members(weights.device)])
        scale = sum(self.learning_rates)
        lists = NearestRows(
            Pool(pool.source, device=pool.device),
            lambda rows, part: without_rounding(part @ features(rows).T, scale),
            anchors,
            request.exclude,
        )
        picks = turns(lists, len(anchors), pool.num_rows, request, request.num_continued, weights)
        return measure_picks(repeat_picks(picks, request), pool, gp, request)


def _unit(part: Tensor, _: int) -> Tensor:
    return unit(part)
