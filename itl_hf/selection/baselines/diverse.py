"""Baselines that pick diverse rows and do not use the targets: k-center, BADGE, k-means prototypes."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.search.availability import AvailabilityTracker
from itl_hf.search.greedy import GreedyPicks
from itl_hf.selection.baselines.farthest import traverse
from itl_hf.selection.baselines.ranking import NearestRows, pool_scores, turns, without_rounding
from itl_hf.selection.protocol import (
    Noise,
    Reads,
    SelectionRequest,
    check_choice,
    check_whole,
    measure_picks,
    repeat_picks,
)

FeatureUse = Literal["raw", "prepared"]


@dataclass(frozen=True)
class KCenter:
    """Picks the row farthest from all rows picked so far, max_x min_c |x - c|: greedy k-center, a coreset.

    Source: Sener & Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach" (ICLR 2018),
    algorithm 1: within a factor 2 of the smallest radius that covers the pool. Rows trained on
    before are the first centres; without any, the first is the row nearest to the pool's mean (the paper starts from
    labelled rows).

    Args:
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[0.0, 9.0], [0.0, 1.0], [1.0, 0.0], [5.0, 0.0]]
        >>> select_rows(rows, [[1.0, 0.0]], 3, acquisition="k_center", standardize=False).indices
        array([1, 0, 3])
    """

    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "k_center"
    weighs_targets: ClassVar[bool] = True  # it does not use the targets: there is nothing to weigh

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks rows by farthest-first traversal."""

        def first(open_rows: Tensor) -> int:
            mean = mean_of(pool)
            distance = pool_scores(pool, lambda rows: (rows - mean).square().sum(1))  # (N,)
            return int(without_rounding(distance, largest(pool)).masked_fill(~open_rows, torch.inf).argmin())

        picks = traverse(pool, request, request.observed_rows, first, lambda _: None)
        return measure_picks(repeat_picks(picks, request), pool, gp, request)


@dataclass(frozen=True)
class BADGE:
    """Draws rows with probability proportional to D(x)^2, the squared distance to the nearest row drawn before.

    Source: Ash et al., "Deep Batch Active Learning by Diverse, Uncertain Gradient Lower Bounds" (ICLR 2020), algorithm
    1: k-means++ seeding on gradients of the loss at the labels that the model itself predicts. The features are to be
    those gradients: `Gradients(model, labels="predicted")`. Their length measures how uncertain the model is, so they
    are used as the embedder returned them. With other features use `features="prepared"`; it is then plain k-means++
    seeding. The first row is the one with the longest gradient, as in the authors' code, drawn at random if there are
    several; rows trained on before count as drawn.

    Args:
        features (`"raw"` or `"prepared"`, *optional*, defaults to `"raw"`):
            Whether distances are between the features as the embedder returned them, or after `standardize`.
        seed (`int`, *optional*, defaults to 0):
            Seed of the draws.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[1.0, 0.0], [9.0, 0.0], [9.0, 0.0], [0.0, 0.1]]
        >>> int(select_rows(rows, [[1.0, 0.0]], 1, acquisition="badge").indices[0]) in (1, 2)
        True
    """

    features: FeatureUse = "raw"
    seed: int = 0
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "badge"
    weighs_targets: ClassVar[bool] = True  # it does not use the targets: there is nothing to weigh

    def __post_init__(self) -> None:
        check_choice("features", self.features, FeatureUse)
        check_whole("seed", self.seed, 0)

    @property
    def reads(self) -> Reads:
        """The features that distances are computed between."""
        return "raw features" if self.features == "raw" else "features"

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Draws rows by k-means++ seeding: each draw is the smallest of exponential times with rates D(x)^2."""
        rows, observed_rows = pool, request.observed_rows
        if self.features == "raw":
            if request.raw is None:
                raise ValueError("badge reads the features before preparation: SelectionRequest.raw must hold them")
            rows, observed_rows = (
                Pool(pool.source, device=pool.device),
                request.raw.observed_rows.to(pool.device).double(),
            )

        def first(open_rows: Tensor) -> int:
            norms = pool_scores(rows, lambda block: block.square().sum(1))
            longest = norms.masked_fill(~open_rows, -torch.inf)
            equal = longest >= longest.max() * (1 - 1e-9)
            return int(race(self.seed, 0, pool.num_rows).masked_fill(~equal, 0).argmax())

        picks = traverse(rows, request, observed_rows, first, lambda centres: race(self.seed, centres, pool.num_rows))
        return measure_picks(repeat_picks(picks, request), pool, gp, request)


def race(seed: int, draw: int, num_rows: int) -> Tensor:
    """Returns 1 / exponential times, (N,).

    The row with the largest w(x) / time(x) is drawn with probability w(x) / sum w.
    """
    # A torch generator keeps only 32 bits of its seed.
    uniform_draws = np.random.default_rng([seed, draw]).random(num_rows)
    return torch.from_numpy(1 / np.maximum(-np.log1p(-uniform_draws), 1e-300))


@dataclass(frozen=True)
class KMeans:
    """Forms as many clusters as picks and takes the row nearest to each centre: k-means prototypes.

    Sources: Nguyen & Smeulders, "Active Learning Using Pre-clustering" (ICML 2004); the self-supervised prototypes of
    Sorscher et al., "Beyond Neural Scaling Laws" (NeurIPS 2022). k-means++ seeding, then Lloyd's iterations until no
    row changes its cluster, in float64, one pass over the pool each. Large clusters come first; if the nearest row is
    picked already or not available, the next nearest is taken. All rows are clustered, also those that may not be
    picked. A continued selection is a new clustering, not a longer one.

    Args:
        max_iterations (`int`, *optional*, defaults to 25):
            Maximum number of Lloyd's iterations.
        seed (`int`, *optional*, defaults to 0):
            Seed of the first centres.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[0.0, 1.0], [0.0, 2.0], [0.0, 3.0], [9.0, 0.0]]
        >>> select_rows(rows, [[1.0, 0.0]], 2, acquisition="k_means", standardize=False).indices
        array([1, 3])
    """

    max_iterations: int = 25
    seed: int = 0
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "k_means"
    weighs_targets: ClassVar[bool] = True  # it does not use the targets: there is nothing to weigh

    def __post_init__(self) -> None:
        check_whole("max_iterations", self.max_iterations, 0)
        check_whole("seed", self.seed, 0)

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Clusters the pool, then takes one row of each cluster."""
        count = min(request.availability.num_examples, pool.num_rows)
        centres, sizes = self.cluster(pool, count)
        centres = centres[sizes.sort(descending=True, stable=True).indices]
        scale = largest(pool)
        nearest = NearestRows(
            pool, lambda rows, part: -squared_distances(rows, part, scale).T, centres, request.exclude
        )
        return measure_picks(repeat_picks(turns(nearest, count, pool.num_rows, request), request), pool, gp, request)

    def cluster(self, pool: Pool, count: int) -> tuple[Tensor, Tensor]:
        """Returns centres (count, d) and sizes (count,) of the clusters."""
        anything = SelectionRequest(
            AvailabilityTracker(count), False, observed_rows=torch.zeros(0, pool.dimension, dtype=torch.float64)
        )
        draw = functools.partial(race, self.seed, num_rows=pool.num_rows)
        centres = pool.rows(traverse(pool, anything, anything.observed_rows, lambda _: int(draw(0).argmax()), draw))
        scale = largest(pool)
        before, sizes = list[Tensor](), torch.zeros(count, dtype=torch.float64, device=pool.device)
        for iteration in range(self.max_iterations + 1):
            # Ties go to the first centre.
            member = [squared_distances(rows, centres, scale).argmin(1) for _, rows in pool.blocks()]
            has_changed = iteration == 0 or any(bool((a != b).any()) for a, b in zip(before, member, strict=True))
            ones = [part.bincount(minlength=count).double() for part in member]
            sizes = distributed.sum_over_processes(torch.stack([torch.zeros_like(sizes), *ones]).sum(0))
            if (
                int(distributed.sum_over_processes(torch.tensor(int(has_changed)))) == 0
                or iteration == self.max_iterations
            ):
                break
            sums, before = torch.zeros_like(centres), member
            for part, (_, rows) in zip(member, pool.blocks(), strict=True):
                sums.index_add_(0, part, rows)
            sums = distributed.sum_over_processes(sums)
            centres = torch.where(sizes[:, None] > 0, sums / sizes.clamp_min(1)[:, None], centres)
        return centres, sizes


def largest(pool: Pool) -> float:
    """Returns the largest squared norm of the pool's rows; errors of distances are relative to it."""
    return float(pool_scores(pool, lambda rows: rows.square().sum(1)).max()) or 1.0


def squared_distances(rows: Tensor, centres: Tensor, scale: float) -> Tensor:
    """Returns squared distances relative to `scale`, rounded, (B, d), (c, d) -> (B, c)."""
    products = rows.square().sum(1)[:, None] + centres.square().sum(1) - 2 * (rows @ centres.T)
    return without_rounding(products, scale)


def mean_of(pool: Pool) -> Tensor:
    """Returns the mean row (d,), summed in row order whichever process holds a row."""
    sums = [rows.sum(0) for _, rows in pool.blocks()]
    empty = torch.zeros(0, pool.dimension, dtype=torch.float64, device=pool.device)
    return distributed.gather_rows(torch.cat([empty, *(part[None] for part in sums)])).sum(0) / pool.num_rows
