"""How much of each target's variance a pool can remove at most, however its rows are picked.

The *irreducible* variance of a target, Var[f(a) | f(S)] with noise-free answers to every row of the pool S, is a lower
bound for every selection from S; the variance of a greedy selection falls towards it. For the linear kernel it takes
one pass that sums a d x d matrix. Other kernels need the kernel matrix of the rows, so a large pool is represented by
some of its rows. Observing fewer rows leaves more variance: all numbers are then *upper bounds*, and `exact` is false.

Source: Huebotter et al., "Transductive Active Learning: Theory and Applications" (2024).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Kernel, gram_matrix
from itl_hf.gp.memoization import once_for_kernel
from itl_hf.gp.noise import effective_rank, spectrum_rank
from itl_hf.gp.pool import Pool
from itl_hf.gp.quality import Quality, join
from itl_hf.gp.reach import target_reach
from itl_hf.gp.whole_pool_information import information, is_defined

#: Rows that the d x d matrix is summed over; and rows whose own matrix is factored where there is no d x d matrix.
MOST_ROWS = 20_000
MOST_LANDMARKS = 4096
#: The eigenvalues of a larger d x d matrix would take many times as long as the selection itself.
LARGEST_DIMENSION = 2048
#: Nearest rows of each target that are always among the representatives: they make the upper bound tight.
NEAREST = 32
#: Directions with less than this share of the leading eigenvalue count as unobserved. Rounding moves the results by up
#: to 1e-16 over this number; what is left out can only raise them.
RANK_TOLERANCE = 1e-10
#: Rows that the pool's effective rank is measured on where there is no d x d matrix.
RANK_ROWS = 1024
_CHUNK_ROWS = 4096


@dataclass(frozen=True)
class AttainableVariance:
    """How much of each target's variance is left by the pool, however its rows are picked.

    Args:
        compute_limits (`Callable`):
            Computes `irreducible`, `whole_pool` and `whole_pool_information`.
        reach (`Tensor`):
            (m,) float64, largest prior correlation k(x, a) / sqrt(k(x, x) k(a, a)) with any row of the pool. Signed:
            under a linear kernel an opposite row removes variance too, but is not near.
        usual_reach (`float`):
            The reach of the pool's own rows: 19 in 20 of them have another row with at least this correlation, by a
            sample of 128.
        nearest (`Tensor`):
            (k, m) int64, row numbers of each target's nearest rows by that correlation, nearest first.
        prior (`Tensor`):
            (m,) float64, k(a, a).
        target_rank (`float`):
            Effective number of directions the targets span.
        pool_rank (`float`):
            Effective number of directions of the representatives; where their own matrix is used, of 1,024 evenly
            spaced ones.
        rows (`int`):
            Rows of the pool that `irreducible` and `whole_pool` are conditioned on.
        exact (`bool`):
            Whether these are all rows. If not, both are upper bounds; `reach` is always over all rows.

    Attributes:
        irreducible (`Tensor`):
            (m,) float64, Var[f(a) | f(S)], answers without noise. No selection, with or without repeated picks, goes
            below it.
        whole_pool (`Tensor`):
            (m,) float64, Var[f(a) | y(S)], every row answered once, with the selection's noise. No selection without
            repeated picks goes below it.
        whole_pool_information (`float`):
            Information about the targets that every row answered once would give, in nats; NaN where it is not finite
            or the targets are too many. All three are computed when one of them is first read: without a d x d matrix
            that takes several times as long as the selection.
    """

    compute_limits: Callable[[], tuple[Tensor, Tensor, float]]
    reach: Tensor
    usual_reach: float
    nearest: Tensor
    prior: Tensor
    target_rank: float
    pool_rank: float
    rows: int
    exact: bool

    @property
    def irreducible(self) -> Tensor:
        """(m,) float64, what no row of the pool can remove."""
        # Both bound the same number from above. With tiny noise, the second includes directions that the rank tolerance
        # leaves out of the first, and is then the smaller one.
        return torch.minimum(*self._limits[:2])

    @property
    def whole_pool(self) -> Tensor:
        """(m,) float64, what would be left after every row of the pool."""
        return self._limits[1]

    @property
    def whole_pool_information(self) -> float:
        """Information that every row of the pool would give, in nats."""
        return self._limits[2]

    @functools.cached_property
    def _limits(self) -> tuple[Tensor, Tensor, float]:
        return self.compute_limits()


def attainable_variance(
    pool: Pool,
    gp: GaussianProcess,
    *,
    include: Sequence[int] = (),
    observed_rows: Tensor | None = None,
    observed_quality: Quality = 1.0,
    most_rows: int = MOST_ROWS,
    most_landmarks: int = MOST_LANDMARKS,
) -> AttainableVariance:
    """Measures how much of each target's variance the pool can remove, in at most two passes with d x d numbers in
    memory.

    Collective: under `torchrun` all processes must call it. A larger pool is represented by the rows in `include`, each
    target's nearest rows, and an evenly spaced sample.

    Args:
        pool (`Pool`):
            The pool.
        gp (`GaussianProcess`):
            Kernel, targets and noise.
        include (`Sequence[int]`, *optional*):
            Rows that are representatives in any case. With the picks among them, the bounds are never above the
            variance that the picks left.
        observed_rows (`Tensor`, *optional*):
            (h, d) prepared rows that were trained on before.
        observed_quality (`Quality`, *optional*, defaults to 1.0):
            (h,), their quality.
        most_rows (`int`, *optional*, defaults to 20,000):
            Largest number of representatives under the linear kernel.
        most_landmarks (`int`, *optional*, defaults to 4,096):
            The same for other kernels, and for features of more than 2,048 dimensions.

    Example:
        >>> import torch
        >>> from itl_hf.gp.kernels import Linear
        >>> pool = Pool(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
        >>> gp = GaussianProcess(Linear(), torch.eye(2, dtype=torch.float64), 1.0, 1.0)
        >>> attainable = attainable_variance(pool, gp)
        >>> attainable.irreducible, attainable.exact
        (tensor([0., 1.], dtype=torch.float64), True)
    """
    linear = gp.kernel.linear and pool.dimension <= min(LARGEST_DIMENSION, pool.num_rows)
    most = min(pool.num_rows, most_rows if linear else most_landmarks)
    reach, nearest, usual_reach = target_reach(pool, gp, max(2, min(NEAREST, most // (2 * len(gp.targets)))))
    indices = _representatives(pool, most, include, nearest)
    observed_rows = gp.targets.new_zeros(0, pool.dimension) if observed_rows is None else observed_rows.double()
    if linear:
        is_of_pool = indices is None and not len(observed_rows)
        moment = functools.partial(_second_moment, pool, indices, observed_rows)
        moments = [pool.once("second moment", moment) if is_of_pool else moment()]
        if pool.quality is not None or isinstance(observed_quality, Tensor):
            moments.append(_second_moment(pool, indices, observed_rows, observed_quality, by_quality=True))
        irreducible, whole_pool, pool_rank, nats = _linear_parts(moments, gp)
        compute_limits = lambda: (irreducible, whole_pool, nats)
    else:
        indices_or_all = pool.spaced_rows(pool.num_rows) if indices is None else indices
        compute_limits = functools.partial(_limits_of_rows, pool, indices_or_all, gp, observed_rows, observed_quality)
        if distributed.world_size() > 1:  # all processes must take part, and not all of them may read the result
            limits_of_all = compute_limits()
            compute_limits = lambda: limits_of_all
        pool_rank = once_for_kernel(pool, gp.kernel, "rank", lambda: _rank_of_pool(pool, gp.kernel))
    return AttainableVariance(
        compute_limits=compute_limits,
        reach=reach,
        usual_reach=usual_reach,
        nearest=nearest,
        prior=gp.kernel.diagonal(gp.targets),
        target_rank=effective_rank(gp.targets, gp.kernel, gp.target_weights, gp.pivots),
        pool_rank=pool_rank,
        rows=pool.num_rows if indices is None else len(indices),
        exact=indices is None,
    )


def _limits_of_rows(
    pool: Pool, indices: Sequence[int], gp: GaussianProcess, observed_rows: Tensor, observed_quality: Quality
) -> tuple[Tensor, Tensor, float]:
    rows, quality = pool.rows(indices), pool.quality_of(indices)
    quality = join([(quality, len(rows)), (observed_quality, len(observed_rows))])
    return _kernel_parts(torch.cat([rows, observed_rows]), gp, quality)


def _rank_of_pool(pool: Pool, kernel: Kernel) -> float:
    return effective_rank(pool.rows(pool.spaced_rows(RANK_ROWS)), kernel)


def _representatives(pool: Pool, most: int, include: Sequence[int], nearest: Tensor) -> list[int] | None:
    """Returns the row numbers of the representatives, in order; `None` for all usable rows."""
    if pool.num_rows <= most:
        return None
    priority = dict.fromkeys([*include, *nearest.flatten().tolist()])
    near = list(priority)[: max(len(set(include)), most // 2)]
    return sorted({*near, *pool.spaced_rows(max(most - len(near), 1))})


def _second_moment(
    pool: Pool,
    indices: list[int] | None,
    observed_rows: Tensor,
    observed_quality: Quality = 1.0,
    by_quality: bool = False,
) -> Tensor:
    """Computes Phi'Phi of these rows and of the observed ones, (d, d) float64; Phi'Q Phi, with Q the diagonal matrix of
    their quality, if `by_quality`.
    """
    moment = observed_rows.new_zeros(pool.dimension, pool.dimension)
    if indices is None:
        for start, rows in pool.blocks():
            _add_to_moment(moment, rows, pool.quality_of(slice(start, start + len(rows))) if by_quality else 1.0)
    else:
        own = [indices[position] for position in pool.own_positions(indices)]
        for first in range(0, len(own), _CHUNK_ROWS):
            part = own[first : first + _CHUNK_ROWS]
            _add_to_moment(moment, pool.own_rows(part), pool.quality_of(part) if by_quality else 1.0)
    moment = distributed.sum_over_processes(moment)
    return _add_to_moment(moment, observed_rows, observed_quality if by_quality else 1.0)


def _add_to_moment(moment: Tensor, rows: Tensor, quality: Quality) -> Tensor:
    return moment.addmm_(rows.T, rows * quality[:, None] if isinstance(quality, Tensor) else rows)


def _linear_parts(moments: list[Tensor], gp: GaussianProcess) -> tuple[Tensor, Tensor, float, float]:
    """Returns irreducible and whole-pool variance, (m,) each, the effective rank, and the whole pool's information,
    from Phi'Phi (d, d) and, where rows differ in quality, Phi'Q Phi.
    """
    energy, vectors = torch.linalg.eigh(moments[0])
    energy = energy.clamp_min(0)
    parts = gp.targets @ vectors  # (m, d): the square is a target's prior variance by direction
    is_unobserved = energy <= energy[-1] * RANK_TOLERANCE
    irreducible, rank = parts[:, is_unobserved].square().sum(1), spectrum_rank(energy)
    if len(moments) > 1:
        energy, vectors = torch.linalg.eigh(moments[1])
        energy, parts = energy.clamp_min(0), gp.targets @ vectors
    noise_variance = gp.noise_std**2
    share_left = noise_variance / (noise_variance + energy)  # (d,)
    whole_pool = parts.square() @ share_left
    nats = math.nan
    if is_defined(gp):
        nats = information(gp, gp.targets @ gp.targets.T, (parts * (1 - share_left)) @ parts.T)
    return irreducible, whole_pool, rank, nats


def _kernel_parts(rows: Tensor, gp: GaussianProcess, quality: Quality) -> tuple[Tensor, Tensor, float]:
    """Returns irreducible and whole-pool variance, (m,) each, and the information, from the rows' kernel matrix (M, M).

    Instead of no noise, a noise far below the leading eigenvalue is used: that is an upper bound too, and a Cholesky
    factor takes a tenth of the time of eigenvalues.
    """
    gram, cross = gram_matrix(rows, gp.kernel), gp.kernel.cross(rows, gp.targets)  # (M, M), (M, m)
    prior = gp.kernel.diagonal(gp.targets)
    least = RANK_TOLERANCE * max(float(gram.abs().sum(1).max()), 1e-300)  # row sums bound the leading eigenvalue
    variances = []
    for noise_variance in (least, gp.noise_std**2 / quality + 1e-2 * least):
        factor = _factor(gram, noise_variance)
        parts = torch.linalg.solve_triangular(factor, cross, upper=False)  # (M, m)
        variances.append((prior - parts.square().sum(0)).clamp_min(0))
    nats = math.nan
    if is_defined(gp):
        nats = information(gp, gp.kernel.cross(gp.targets, gp.targets), parts.T @ parts)
    return variances[0], variances[1], nats


def _factor(gram: Tensor, noise_variance: Quality) -> Tensor:
    """Returns the Cholesky factor of the matrix plus noise, or plus more noise where it is not positive definite."""
    while True:
        factor, error_code = torch.linalg.cholesky_ex(gram.diagonal_scatter(gram.diagonal() + noise_variance))
        if not error_code or not math.isfinite(float(torch.as_tensor(noise_variance).min())):
            return factor
        noise_variance = noise_variance * 100
