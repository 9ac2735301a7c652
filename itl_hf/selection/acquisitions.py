"""The acquisitions that maximise an objective of `itl_hf.objectives`: ITL, VTL, mean-marginal ITL, CTL, undirected.

The baselines they are compared with are in `itl_hf.selection.baselines`. Every acquisition has the noise of the
Gaussian process, also the baselines that pick without one, so that the information gain and the target variance of any
selection are measured in the same way and can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.objectives.base import Objective
from itl_hf.objectives.registry import OBJECTIVES
from itl_hf.search.greedy import GreedyPicks
from itl_hf.search.speculative import speculative_greedy
from itl_hf.selection.avoid import Avoid
from itl_hf.selection.protocol import Noise, SelectionRequest


@dataclass(frozen=True)
class ITL:
    """Information-based transductive learning: picks the row whose answer gives most information about the targets,
    given the rows picked before.

    Args:
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Standard deviation of the noise on a row's answer, relative to sqrt(mean k(x, x)) = 1. Small values favour
            variety, large ones relevance. `"auto"` follows the rule of `itl_hf.gp.noise`;
            `"measured"` measures the correlations in that rule in the pool (`select_rows` and `Selector.select`).
        target_noise_std (`float`, *optional*):
            Noise on the targets' values; defaults to `noise_std`, which gives I(y(A); y_x). 0 gives I(f(A); y_x), which
            no longer depends on the targets when these span the whole feature space.
        avoid ([`Avoid`], *optional*):
            Features of prompts whose tasks must not be learned: `weight` times the information about them is
            subtracted (`itl_hf.objectives.avoiding_itl`). `Selector.select(avoid=...)` takes them as text.

    Raises:
        `ValueError`: If another objective, such as VTL, is to avoid something.

    Example:
        >>> from itl_hf import ITL
        >>> ITL(noise_std=1.0).name
        'itl'
    """

    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "itl"
    avoid: Avoid | None = field(default=None, kw_only=True)
    weighs_targets: ClassVar[bool] = True
    uses_quality: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "avoid", Avoid.of(self.avoid))  # nothing to avoid is `None`, in the record too
        if self.avoid is not None and self.name != "itl":
            raise ValueError(
                f"avoid= is for acquisition 'itl': {self.name!r} has no difference of information about targets and "
                "prompts to avoid"
            )

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Maximises the objective of this name greedily and exactly."""
        objective: Objective = OBJECTIVES[self.name](gp) if self.avoid is None else self.avoid.objective(pool, gp)
        request.condition(objective)
        return speculative_greedy(
            pool,
            objective,
            request.availability.num_examples,
            availability=request.availability,
            replace=request.replace,
            exclude=request.exclude,
            on_picks=request.on_picks,
            stop=request.stop,
        )


@dataclass(frozen=True)
class VTL(ITL):
    """Variance-based transductive learning: picks the row that removes most of the targets' total variance. With one
    target this is SIFT.

    Example:
        >>> from itl_hf import VTL, select_rows
        >>> select_rows([[1.0, 0.0], [0.0, 1.0]], [[0.0, 1.0]], 1, acquisition=VTL(noise_std=1.0)).indices
        array([1])
    """

    name: str = "vtl"


@dataclass(frozen=True)
class MeanMarginalITL(ITL):
    """Picks the row with the largest information about a single target, averaged over the targets."""

    name: str = "mean_marginal_itl"


@dataclass(frozen=True)
class CTL(ITL):
    """Picks the row with the largest mean posterior correlation with the targets."""

    name: str = "ctl"


@dataclass(frozen=True)
class Undirected(ITL):
    """Picks the row with the largest posterior variance, whatever the targets (uncertainty sampling)."""

    name: str = "undirected"
