"""Baselines that pick rows similar to the targets: to their mean, to any of them, to each in turn, or weighted with
uncertainty.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import Quality, weighted_mean
from itl_hf.objectives.base import ObservationBlock, ProjectionTables
from itl_hf.objectives.undirected import Undirected
from itl_hf.search.greedy import GreedyPicks
from itl_hf.search.speculative import speculative_greedy
from itl_hf.selection.baselines.ranking import NearestRows, pool_scores, rank_rows, turns, unit, without_rounding
from itl_hf.selection.protocol import Noise, SelectionRequest, measure_picks, picks_in_order, repeat_picks


@dataclass(frozen=True)
class Cosine:
    """Nearest-neighbour retrieval: the rows with the highest mean cosine to the targets, 1/m sum_a cos(x, a), weighted
    by their weights.

    The score depends neither on the picks before nor on single targets, so in a mixture of tasks most picks go to the
    commonest one.
    Source: the baseline "CosineSimilarity" of Huebotter et al., "Active Few-Shot Fine-Tuning" (2024).

    Args:
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]
        >>> select_rows(rows, [[0.1, 1.0]], 1, acquisition="cosine", standardize=False).indices
        array([1])
    """

    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "cosine"
    weighs_targets: ClassVar[bool] = True

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks the rows with the best scores; ties go to the lowest row number."""
        towards = weighted_mean(
            unit(gp.targets), gp.target_weights
        )  # (d,); its product with a unit row is the mean cosine
        scores = pool_scores(pool, lambda rows: unit(rows) @ towards)  # (N,)
        return picks_in_order(rank_rows(without_rounding(scores), request.exclude), pool, gp, request)


@dataclass(frozen=True)
class MaxSimilarity:
    """The rows with the highest cosine similarity to any target, max_a cos(x, a).

    Most picks go to the targets that have the nearest rows, and similar rows are picked repeatedly; a target may get no
    row. `LESS` is the same formula on gradients that are neither centred nor scaled. Copies of a target do not change
    its score, so weights of targets are refused.

    Args:
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[1.0, 0.1], [0.5, 0.5], [-1.0, -1.0]]
        >>> select_rows(rows, [[1.0, 0.0], [0.0, 1.0]], 1, acquisition="max_similarity", standardize=False).indices
        array([0])
    """

    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "max_similarity"

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks the rows with the best scores; ties go to the lowest row number."""
        targets = unit(gp.targets)
        scores = pool_scores(pool, lambda rows: (unit(rows) @ targets.T).amax(1))  # (N,)
        return picks_in_order(rank_rows(without_rounding(scores), request.exclude), pool, gp, request)


@dataclass(frozen=True)
class RoundRobin:
    """Picks, for each target in turn, its most similar row that is not picked yet (RDS+).

    Source: Ivison et al., "Large-Scale Data Selection for Instruction Tuning" (2025), section 3: with weighted-mean
    hidden states as features it was the best selection that they tested. Here the features are those of the embedder,
    prepared as for ITL. The turns follow the order of the targets, or are shared in proportion to their weights
    (`itl_hf.selection.baselines.ranking.turn_order`); a continued selection continues with the target whose turn is
    next.

    Args:
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[1.0, 0.0], [1.0, 0.1], [0.0, 1.0]]
        >>> select_rows(rows, [[1.0, 0.0], [0.5, 1.0]], 2, acquisition="round_robin", standardize=False).indices
        array([0, 2])
    """

    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "round_robin"
    weighs_targets: ClassVar[bool] = True

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Takes turns over exact lists of the nearest rows."""
        nearest = NearestRows(pool, _cosines, unit(gp.targets), request.exclude)
        picks = turns(nearest, len(gp.targets), pool.num_rows, request, request.num_continued, self.turn_weights(gp))
        return measure_picks(repeat_picks(picks, request), pool, gp, request)

    def turn_weights(self, gp: GaussianProcess) -> Tensor | None:
        """Returns how the turns are shared among targets, (m,); equally if `None`."""
        return gp.target_weights


def _cosines(rows: Tensor, anchors: Tensor) -> Tensor:
    return without_rounding(anchors @ unit(rows).T)


class Density(Undirected):
    """log(1 + s / r) w: uncertainty (entropy in nats, twice) times a weight that no pick changes."""

    name = "information_density"

    def __init__(self, gp: GaussianProcess, beta: float) -> None:
        super().__init__(gp)
        self.towards, self.beta = weighted_mean(unit(gp.targets), gp.target_weights), beta

    def initial_stats(self, rows: Tensor, tables: ProjectionTables) -> Tensor:
        """Returns variance and weight, (2, B)."""
        similarity = unit(rows) @ self.towards.to(rows.dtype)
        return torch.stack([self.gp.kernel.diagonal(rows), similarity.clamp_min(0) ** self.beta])

    def decrements(self, projections: Tensor, observations: ObservationBlock) -> Tensor:
        """The variance falls by the squared projections, the weight by nothing."""
        decrements = projections.square()
        return torch.cat([decrements, torch.zeros_like(decrements)])

    def score(self, stats: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """log(1 + s / r) times the weight."""
        return torch.log1p(stats[0].clamp_min(0) / self.answer_noise(stats, quality)) * stats[1]

    def upper_bound(self, stats: Tensor, slack: Tensor, num_observations: int, quality: Quality = 1.0) -> Tensor:
        """The score of the largest variance and weight."""
        return self.score((stats + slack).clamp_min(0), num_observations, quality)

    def error_scales(self, stats: Tensor) -> Tensor:
        """The variance's error is relative to the prior one, the weight's, a power of a cosine, to 1."""
        return torch.stack([stats[0], torch.ones_like(stats[1])])

    def gain(self, score: Tensor) -> Tensor:
        """The score itself."""
        return score


@dataclass(frozen=True)
class InformationDensity:
    """Picks uncertain rows that are similar to the targets: the largest H(x) (1/m sum_a cos(x, a))^beta.

    Source: Settles & Craven, "An Analysis of Active Learning Strategies for Sequence Labeling Tasks" (EMNLP 2008),
    section 3.5, where the density is similarity to the unlabelled pool; similarity to the targets as in Huebotter et
    al., "Active Few-Shot Fine-Tuning" (2024). H is the entropy of the Gaussian process's answer at x above that of the
    noise, 1/2 log(1 + var(x) / noise), given the picks so far: the paper's model is a classifier that is fitted again
    after each batch. A negative mean similarity counts as 0. The mean is
    weighted by the targets' weights. Exact greedy, in the same few passes as ITL.

    Args:
        beta (`float`, *optional*, defaults to 1.0):
            Exponent of the similarity; 0 is `undirected`.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            See `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`; used only to measure the gains.

    Example:
        >>> from itl_hf import select_rows
        >>> rows, options = [[1.0, 0.0], [2.0, 0.1], [0.0, 3.0]], {"kernel": "linear", "standardize": False}
        >>> select_rows(rows, [[1.0, 0.0]], 1, acquisition="information_density", **options).indices
        array([1])
    """

    beta: float = 1.0
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "information_density"
    weighs_targets: ClassVar[bool] = True
    uses_quality: ClassVar[bool] = True

    def __post_init__(self) -> None:
        number = isinstance(self.beta, int | float) and not isinstance(self.beta, bool)
        if not number or not 0 <= self.beta < math.inf:
            raise ValueError(f"beta must be 0 or positive and finite, got {self.beta!r}")

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Maximises the score greedily and exactly."""
        objective = request.condition(Density(gp, self.beta))
        greedy_picks = speculative_greedy(
            pool,
            objective,
            request.availability.num_examples,
            availability=request.availability,
            replace=request.replace,
            exclude=request.exclude,
            on_picks=request.on_picks,
        )
        return measure_picks(greedy_picks.indices, pool, gp, request)
