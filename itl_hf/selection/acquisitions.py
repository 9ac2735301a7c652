"""The ways to choose rows, as the user names them: ITL, its relatives, and the rivals it is compared with, behind one
protocol.

Every acquisition carries the noise of the Gaussian process, also those that pick without one: the information gain and
the target variance of any selection are then measured in the same way and can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.objectives.base import Objective
from itl_hf.objectives.registry import OBJECTIVES
from itl_hf.search.greedy import GreedyPicks
from itl_hf.search.speculative import speculative_greedy
from itl_hf.selection.protocol import Noise, SelectionRequest


@dataclass(frozen=True)
class ITL:
    """Information-based transductive learning: the row whose answer would tell most about the targets, given those
    picked before.

    Args:
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Standard deviation of the noise on a row's answer, relative to sqrt(mean k(x, x)) = 1. Small values seek
            variety, large ones relevance; for the rule see `itl_hf.gp.noise`.
        target_noise_std (`float`, *optional*):
            Noise on the targets' values; defaults to `noise_std`, which gives I(y(A); y_x). 0 gives I(f(A); y_x), which
            loses its direction when the targets span the whole feature space.

    Example:
        >>> from itl_hf import ITL
        >>> ITL(noise_std=1.0).name
        'itl'
    """

    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "itl"

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Exact greedy maximisation of the objective of this name."""
        objective: Objective = OBJECTIVES[self.name](gp)
        for row in request.known:
            objective.observe(row)
        return speculative_greedy(
            pool,
            objective,
            request.limits.num_examples,
            limits=request.limits,
            replace=request.replace,
            exclude=request.exclude,
            on_picks=request.on_picks,
            stop=request.stop,
        )


@dataclass(frozen=True)
class VTL(ITL):
    """Variance-based transductive learning: the row that removes most of the targets' total variance; SIFT when there
    is one target.

    Example:
        >>> from itl_hf import VTL, select_rows
        >>> select_rows([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0]], 1, acquisition=VTL(noise_std=1.0)).indices
        array([1])
    """

    name: str = "vtl"


@dataclass(frozen=True)
class MeanMarginalITL(ITL):
    """The row that tells most about each target taken for itself, on average."""

    name: str = "mean_marginal_itl"


@dataclass(frozen=True)
class CTL(ITL):
    """The row with the largest mean posterior correlation with the targets."""

    name: str = "ctl"


@dataclass(frozen=True)
class Undirected(ITL):
    """The row the model knows least about, whatever the targets (uncertainty sampling)."""

    name: str = "undirected"
