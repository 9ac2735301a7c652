"""What a pool can teach about each target at most, however its rows are picked.

The *irreducible* variance of a target, Var[f(a) | f(S)] with noise-free answers to every row of the pool S, is what no
selection from S can go below; the variance of a greedy selection falls towards it. For the linear kernel it takes one
pass that sums a d x d matrix; other kernels need the matrix of the rows themselves, so a large pool is represented by
some of its rows. Knowing fewer rows leaves more variance: all numbers are then *upper bounds*, and say so (`exact`).

Source: Huebotter et al., "Transductive Active Learning: Theory and Applications" (2024).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Kernel, gram_matrix
from itl_hf.gp.noise import effective_rank
from itl_hf.gp.pool import Pool, spaced_rows

#: Rows that the d x d matrix is summed over; and rows whose own matrix is factored where there is no d x d matrix.
MOST_ROWS = 20_000
MOST_LANDMARKS = 4096
#: The eigenvalues of a larger d x d matrix would take many times as long as the selection itself.
LARGEST_DIMENSION = 2048
#: Nearest rows of each target that are always among those looked at: they are what makes an upper bound tight.
NEAREST = 32
#: Directions with less than this share of the leading eigenvalue count as unknown. Rounding moves the results by up to
#: 1e-16 over this number; what is left out can only raise them.
RANK_TOLERANCE = 1e-10
#: Rows that the pool's effective rank is measured on where there is no d x d matrix.
RANK_ROWS = 1024
#: Evenly spaced rows of the pool that say how near its rows usually are to each other, and the quantile of theirs.
PROBES = 128
USUAL_QUANTILE = 0.05
_CHUNK = 4096
_TARGETS_AT_ONCE = 1024


@dataclass(frozen=True)
class AttainableVariance:
    """What a pool can teach about each target, however its rows are picked.

    Args:
        irreducible (`Tensor`):
            (m,) float64, Var[f(a) | f(S)], answers without noise. No selection, with or without repeated picks, goes
            below it.
        whole_pool (`Tensor`):
            (m,) float64, Var[f(a) | y(S)], every row answered once, with the selection's noise. No selection without
            repeated picks goes below it.
        reach (`Tensor`):
            (m,) float64, largest prior correlation k(x, a) / sqrt(k(x, x) k(a, a)) with any row of the pool. Signed:
            under a linear kernel an opposite row teaches too, but nobody would call it near.
        usual_reach (`float`):
            What `reach` is like for the pool's own rows: 19 in 20 of them have another row that correlates at least so
            much, by a sample of 128.
        nearest (`Tensor`):
            (k, m) int64, numbers of each target's nearest rows by that correlation, nearest first.
        prior (`Tensor`):
            (m,) float64, k(a, a).
        target_rank (`float`):
            Effective number of directions the targets span.
        pool_rank (`float`):
            Effective number of directions of the rows looked at; where their own matrix is used, of 1,024 evenly spaced
            ones.
        rows (`int`):
            Rows of the pool that `irreducible` and `whole_pool` are conditioned on.
        exact (`bool`):
            Whether these are all rows. If not, both are upper bounds; `reach` always looks at every row.
    """

    irreducible: Tensor
    whole_pool: Tensor
    reach: Tensor
    usual_reach: float
    nearest: Tensor
    prior: Tensor
    target_rank: float
    pool_rank: float
    rows: int
    exact: bool


def attainable_variance(
    pool: Pool,
    gp: GaussianProcess,
    *,
    include: Sequence[int] = (),
    known: Tensor | None = None,
    most_rows: int = MOST_ROWS,
    most_landmarks: int = MOST_LANDMARKS,
) -> AttainableVariance:
    """Measures what the pool can teach about each target: two passes at most, d x d numbers in memory.

    Under `torchrun` all processes must call it. A pool of more rows than are looked at is represented by the rows in
    `include`, each target's nearest rows, and an evenly spaced sample.

    Args:
        pool (`Pool`):
            The pool.
        gp (`GaussianProcess`):
            Kernel, targets and noise.
        include (`Sequence[int]`, *optional*):
            Rows to look at in any case. With the picks among them, the bounds are never above the variance that the
            picks left.
        known (`Tensor`, *optional*):
            (h, d) prepared rows that were trained on before.
        most_rows (`int`, *optional*, defaults to 20,000):
            Rows to look at under the linear kernel.
        most_landmarks (`int`, *optional*, defaults to 4,096):
            The same for other kernels, and for features of more than 2,048 dimensions.

    Example:
        >>> import torch
        >>> from itl_hf.gp.kernels import Linear
        >>> pool = Pool(torch.tensor([[1.0, 0.0], [2.0, 0.0]]))
        >>> limits = attainable_variance(pool, GaussianProcess(Linear(), torch.eye(2, dtype=torch.float64), 1.0, 1.0))
        >>> limits.irreducible, limits.exact
        (tensor([0., 1.], dtype=torch.float64), True)
    """
    linear = gp.kernel.linear and pool.dimension <= min(LARGEST_DIMENSION, pool.num_rows)
    most = min(pool.num_rows, most_rows if linear else most_landmarks)
    reach, nearest, usual_reach = _reach(pool, gp, max(2, min(NEAREST, most // (2 * len(gp.targets)))))
    numbers = _representatives(pool.num_rows, most, include, nearest)
    known = gp.targets.new_zeros(0, pool.dimension) if known is None else known.double()
    if linear:
        irreducible, whole_pool, pool_rank = _linear_parts(_second_moment(pool, numbers, known), gp)
    else:
        rows = pool.rows(range(pool.num_rows) if numbers is None else numbers)
        irreducible, whole_pool = _kernel_parts(torch.cat([rows, known]), gp)
        pool_rank = effective_rank(pool.rows(spaced_rows(pool.num_rows, RANK_ROWS)), gp.kernel)
    return AttainableVariance(
        # Both bound the same number from above; what the rank tolerance leaves out, a tiny noise may still see.
        irreducible=torch.minimum(irreducible, whole_pool),
        whole_pool=whole_pool,
        reach=reach,
        usual_reach=usual_reach,
        nearest=nearest,
        prior=gp.kernel.diagonal(gp.targets),
        target_rank=effective_rank(gp.targets, gp.kernel),
        pool_rank=pool_rank,
        rows=pool.num_rows if numbers is None else len(numbers),
        exact=numbers is None,
    )


def _reach(pool: Pool, gp: GaussianProcess, count: int) -> tuple[Tensor, Tensor, float]:
    """Each target's largest correlation with any row, (m,) float64, the numbers of its nearest rows, (k, m), and the
    pool's usual reach.
    """
    probes = pool.rows(spaced_rows(pool.num_rows, PROBES))
    best, numbers = _nearest(pool, torch.cat([gp.targets, probes]), gp.kernel, count)
    best, m = best.double().clamp(-1, 1), len(gp.targets)
    # A row's own correlation is its largest: the second is that with the nearest other.
    usual = float(best[1, m:].quantile(USUAL_QUANTILE)) if len(best) > 1 else 0.0
    return best[0, :m], numbers[:, :m], usual


def _nearest(pool: Pool, targets: Tensor, kernel: Kernel, count: int) -> tuple[Tensor, Tensor]:
    """Each target's largest correlations with rows of the pool, falling, and the numbers of the rows, (k, m) each."""
    best = targets.new_zeros(0, len(targets), dtype=torch.float32)
    numbers = torch.zeros(0, len(targets), dtype=torch.int64, device=targets.device)
    for start, rows in pool.blocks(torch.float32):
        parts = [_block_nearest(rows, part, kernel, count) for part in targets.split(_TARGETS_AT_ONCE)]
        values, places = (torch.cat(column, dim=1) for column in zip(*parts, strict=True))  # (k, m) each
        best, numbers = _largest(torch.cat([best, values]), torch.cat([numbers, places + start]), count)
    best, numbers = _largest(distributed.gather_rows(best), distributed.gather_rows(numbers), count)
    # All processes must go on to ask for the same rows, even where machines round differently.
    return best, distributed.broadcast_from_first(numbers)


def _block_nearest(rows: Tensor, targets: Tensor, kernel: Kernel, count: int) -> tuple[Tensor, Tensor]:
    """Largest correlations with rows of one block, and their places in it, (k, m) each."""
    near = targets.to(rows.dtype)
    scale = torch.outer(kernel.diagonal(rows).sqrt(), kernel.diagonal(near).sqrt())  # (B, m)
    correlation = kernel.cross(rows, near) / scale.clamp_min(torch.finfo(rows.dtype).tiny)
    top = correlation.topk(min(count, len(rows)), dim=0)
    return top.values, top.indices


def _largest(values: Tensor, numbers: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The largest values of each column, with their row numbers."""
    top = values.topk(min(count, len(values)), dim=0)
    return top.values, numbers.gather(0, top.indices)


def _representatives(num_rows: int, most: int, include: Sequence[int], nearest: Tensor) -> list[int] | None:
    """Row numbers to look at, in order; `None` for all of them."""
    if num_rows <= most:
        return None
    chosen = dict.fromkeys([*include, *nearest.flatten().tolist()])
    near = list(chosen)[: max(len(set(include)), most // 2)]
    return sorted({*near, *spaced_rows(num_rows, max(most - len(near), 1))})


def _second_moment(pool: Pool, numbers: list[int] | None, known: Tensor) -> Tensor:
    """Phi'Phi of these rows and of those known before, (d, d) float64."""
    moment = known.new_zeros(pool.dimension, pool.dimension)
    if numbers is None:
        for _, rows in pool.blocks():
            moment.addmm_(rows.T, rows)
        moment = distributed.sum_over_processes(moment)
    else:
        for rows in _chunks(pool, numbers):
            moment.addmm_(rows.T, rows)
    return moment.addmm_(known.T, known)


def _chunks(pool: Pool, numbers: list[int]) -> Iterator[Tensor]:
    for first in range(0, len(numbers), _CHUNK):
        yield pool.rows(numbers[first : first + _CHUNK])


def _linear_parts(moment: Tensor, gp: GaussianProcess) -> tuple[Tensor, Tensor, float]:
    """Irreducible and whole-pool variance, (m,) each, and the effective rank, from Phi'Phi (d, d)."""
    energy, vectors = torch.linalg.eigh(moment)
    energy = energy.clamp_min(0)
    parts = (gp.targets @ vectors).square()  # (m, d): each target's prior variance, direction by direction
    unknown = energy <= energy[-1] * RANK_TOLERANCE
    noise_variance = gp.noise_std**2
    share = energy / energy.sum().clamp_min(torch.finfo(energy.dtype).tiny)
    rank = float(torch.special.entr(share).sum().exp())
    return parts[:, unknown].sum(1), parts @ (noise_variance / (noise_variance + energy)), rank


def _kernel_parts(rows: Tensor, gp: GaussianProcess) -> tuple[Tensor, Tensor]:
    """Irreducible and whole-pool variance, (m,) each, from the kernel matrix of rows (M, d).

    "Without noise" is a noise far below what the leading direction has: it bounds from above too, and its Cholesky
    factor takes a tenth of the time of eigenvalues.
    """
    gram, cross = (
        gram_matrix(rows, gp.kernel),
        gp.kernel.cross(rows, gp.targets),
    )  # (M, M), (M, m)
    prior = gp.kernel.diagonal(gp.targets)
    least = RANK_TOLERANCE * max(float(gram.abs().sum(1).max()), 1e-300)  # row sums bound the leading eigenvalue
    left = []
    for noise_variance in (least, gp.noise_std**2 + 1e-2 * least):
        told = torch.linalg.solve_triangular(_factor(gram, noise_variance), cross, upper=False).square().sum(0)  # (m,)
        left.append((prior - told).clamp_min(0))
    return left[0], left[1]


def _factor(gram: Tensor, noise_variance: float) -> Tensor:
    """Cholesky factor of the matrix plus noise, or plus more noise where a function is no kernel but for rounding."""
    while True:
        factor, failed = torch.linalg.cholesky_ex(gram.diagonal_scatter(gram.diagonal() + noise_variance))
        if not failed or not math.isfinite(noise_variance):
            return factor
        noise_variance *= 100
