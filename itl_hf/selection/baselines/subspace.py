"""GIST: influence measured in the subspace that the targets' gradients span."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.search.greedy import GreedyPicks
from itl_hf.selection.baselines.influence import Influence, by_checkpoint, raw_targets
from itl_hf.selection.baselines.ranking import unit
from itl_hf.selection.protocol import SelectionRequest, check_whole

#: Singular values below this share of the largest are rounding errors, and so are projections of unit rows.
ROUNDING = 1e-10


@dataclass(frozen=True)
class GIST(Influence):
    """Picks the rows whose gradient, projected to the subspace of the targets' gradients, is most similar to a target.

    G = U S V' is the singular value decomposition of the targets' gradients, one a row, and V_k holds the first k right
    singular vectors. The score of a row is max_j sum_i eta_i cos(V_k' x, mean_{a in j} V_k' a), with V_k of checkpoint
    i. Unlike a cosine of whole gradients, it does not fall with the part of a row's gradient that is orthogonal to all
    targets.

    Source: Min et al., "GIST: Targeted Data Selection for Instruction Tuning via Coupled Optimization Geometry"
    (arXiv 2602.18584), equations 14 to 17, and the authors' code (`get_gist_gradients.py`, `matching_gist.py`), whose
    projection G' U_k S_k^-1 is V_k. There k is set by hand for each task, so that 95% of the squared singular values
    are kept; here that share is an option. The gradients are to be those of LoRA weights without Adam's rescaling. The
    paper decomposes whole gradients of any length; the features here are sketches, of unit length unless
    `Gradients(normalize=False)`.

    Args:
        subtasks (`Sequence`, *optional*):
            (m,) a label for each target; by default each target is a subtask of its own.
        learning_rates (`Sequence[float]`, *optional*, defaults to `(1.0,)`):
            Weights of the checkpoints whose features are concatenated in a row, each of the same width.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.
        explained_variance (`float`, *optional*, defaults to 0.95):
            Share of the squared singular values that the subspace keeps at least.
        rank (`int`, *optional*):
            Dimension of the subspace, instead of `explained_variance`; at most the rank of the targets' gradients.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[1.0, 0.5, 0.0], [1.0, 0.0, 9.0]]
        >>> select_rows(rows, [[1.0, 0.0, 0.0]], 1, acquisition="gist").indices
        array([0])
        >>> select_rows(rows, [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], 1, acquisition="gist").indices
        array([1])
    """

    name: str = "gist"
    explained_variance: float = 0.95
    rank: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.explained_variance <= 1:
            raise ValueError(f"explained_variance must be above 0 and at most 1, got {self.explained_variance!r}")
        if self.rank is not None:
            check_whole("rank", self.rank, 1)

    def similarity(
        self, pool: Pool, request: SelectionRequest, weights: Tensor | None = None
    ) -> tuple[Callable[[Tensor], Tensor], Tensor]:
        """Returns a map of rows to unit rows of the subspaces, (B, d) -> (B, k), and anchors, (subtasks, k)."""
        num_checkpoints = len(self.learning_rates)
        targets = raw_targets(self, request, num_checkpoints, pool)
        bases = [self.basis(part) for part in targets.chunk(num_checkpoints, dim=1)]  # (d / checkpoints, k) each
        projected_targets = [
            part @ basis for part, basis in zip(targets.chunk(num_checkpoints, dim=1), bases, strict=True)
        ]
        anchors = [
            unit(self.mean_of_subtasks(part, None)) * rate
            for part, rate in zip(projected_targets, self.learning_rates, strict=True)
        ]
        project = lambda part, number: _unit_projection(part, bases[number])
        return lambda rows: by_checkpoint(rows, project, num_checkpoints), torch.cat(anchors, dim=1)

    def basis(self, targets: Tensor) -> Tensor:
        """Returns the first right singular vectors of the targets' gradients, (m, d) -> (d, k).

        Raises:
            `ValueError`: If all of them are zero.
        """
        _, values, vectors = torch.linalg.svd(targets, full_matrices=False)
        squares = values.square()
        if not float(squares.sum()):
            raise ValueError(
                "gist: the gradients of all targets are zero, so there is no subspace; do they have labels?"
            )
        is_below = squares.cumsum(0) / squares.sum() < self.explained_variance - ROUNDING
        dimension = int(is_below.sum()) + 1 if self.rank is None else self.rank
        basis: Tensor = vectors[: min(dimension, int((values > ROUNDING * values[0]).sum()))].T
        return basis

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks the rows with the best scores; ties go to the lowest row number."""
        return self.rank_by_largest(pool, gp, request)


def _unit_projection(rows: Tensor, basis: Tensor) -> Tensor:
    """Projects rows and scales them to norm 1, (B, d) -> (B, k); rows orthogonal to the subspace become zero."""
    projections = unit(rows) @ basis
    return torch.where(projections.norm(dim=1, keepdim=True) > ROUNDING, unit(projections), 0.0)
