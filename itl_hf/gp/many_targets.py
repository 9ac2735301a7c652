"""Fewer functions in place of many targets: what objectives need of thousands of targets, at a bounded cost.

ITL and VTL see the targets only through quadratic forms over all of them.

- *Linear kernel.* k(x, A) W k(A, y) = x'(A'WA) y. With the triangular factor R of a QR decomposition of W^1/2 A, d x d,
  A'WA = R'R: the d rows of R stand for the m targets, exactly.
- *Other kernels.* A pivoted Cholesky factor of the targets' kernel matrix, K = L L' + rest, L (m, r), writes every
  target's value as a combination of the values at r pivots, f(a) = L_a l + rest, with l = L_P^-1 f(P) independent and
  of variance 1. Pivots are added until the rest is `REST` of the trace, which is rounding, or there are `MOST_PIVOTS`
  of them. What is left over, the targets' variance given the pivots' values, counts as noise of the target ("FITC"),
  and its share of the trace is reported.

Sources: Harbrecht, Peters & Schneider, "On the low-rank approximation by the pivoted Cholesky decomposition" (2012),
algorithm 1; Snelson & Ghahramani, "Sparse Gaussian Processes using Pseudo-inputs" (2006), for the noise; Golub & Van
Loan, "Matrix Computations" (2013), section 5.2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.finite_kernel import check_finite, target_names
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.quality import scale_rows

#: Up to so many targets, their whole kernel matrix is decomposed, which then costs no more than pivots.
FEW_TARGETS = 2048
#: Largest number of pivots, and of bytes of the factor L.
MOST_PIVOTS, FACTOR_BYTES = 2048, 2**29
#: The rest of the trace at which no further pivots are added.
REST = 1e-12
#: Pivots that are chosen together.
PIVOTS_AT_ONCE = 64
#: Rows that are decomposed together.
CHUNK_ROWS = 8192


@dataclass(frozen=True)
class Pivots:
    """Pivots among the targets, and every target as a combination of functions of them.

    Args:
        rows (`Tensor`):
            (r, d) the pivots' feature rows.
        factor (`Tensor`):
            (m, r) L.
        rest (`Tensor`):
            (m,) each target's variance given the pivots' values.
        of_pivots (`Tensor`):
            (r, r) lower triangular, the rows of L that are the pivots'.
        lost_share (`float`):
            The share of the weighted trace that is left over.
    """

    rows: Tensor
    factor: Tensor
    rest: Tensor
    of_pivots: Tensor
    lost_share: float

    def combination(self, functions: Tensor) -> Tensor:
        """Returns the weights of the pivots' values in functions of l, (q, r) -> (q, r)."""
        combined: Tensor = torch.linalg.solve_triangular(self.of_pivots, functions, upper=False, left=False)
        return combined

    def spectrum(self, weights: Tensor | None) -> Tensor:
        """Returns the eigenvalues of W^1/2 K W^1/2, (at most m,).

        What the pivots leave over is taken to be equal eigenvalues of the size of the median of the others. (Measured
        on targets in clusters: the effective rank is then within 15%; with all m - r equal it is up to 60% too large.)
        """
        factor = scale_rows(self.factor, weights)
        energy = torch.linalg.eigvalsh(factor.T @ factor).clamp_min(0)  # (r,)
        rest = float(scale_rows(self.rest.sqrt(), weights).square().sum())
        if self.lost_share <= REST or len(energy) == len(factor):
            return energy
        num_more = min(len(factor) - len(energy), max(1, int(rest / float(energy.median().clamp_min(1e-300)))))
        return torch.cat([energy, energy.new_full((num_more,), rest / num_more)])


def pivot_targets(kernel: Kernel, targets: Tensor, weights: Tensor | None = None) -> Pivots | None:
    """Chooses pivots among many targets; returns `None` for few targets, and for the linear kernel.

    Args:
        kernel (`Kernel`):
            Covariance function.
        targets (`Tensor`):
            (m, d) prepared target rows, float64.
        weights (`Tensor`, *optional*):
            (m,) weights of the targets.

    Raises:
        `ValueError`: If the kernel is not finite for two targets, which are named.
    """
    if kernel.linear or len(targets) <= FEW_TARGETS:
        return None
    most = num_followed(len(targets))
    factor = targets.new_zeros(len(targets), most)
    prior = kernel.diagonal(targets)
    check_finite(prior[:, None], kernel, target_names(), lambda _: "itself")
    shares = torch.ones_like(prior) if weights is None else weights
    rest, total, numbers = prior.clone(), float(shares @ prior), prior.new_zeros(0, dtype=torch.int64)
    while len(numbers) < most and float(shares @ rest) > REST * total:
        earlier = factor[:, : len(numbers)]
        pivots, pivot_factor = _next_pivots(kernel, targets, earlier, rest * shares, most - len(numbers))
        if len(pivots) == 0:
            break
        columns = _columns(kernel, targets, earlier, pivots, pivot_factor)
        factor[:, len(numbers) : len(numbers) + len(pivots)] = columns
        rest = (rest - columns.square().sum(1)).clamp_min_(0)
        rest[pivots] = 0.0
        numbers = torch.cat([numbers, pivots])
    factor = factor[:, : len(numbers)]
    return Pivots(
        targets[numbers], factor, rest, factor[numbers].tril(), float(shares @ rest) / total if total else 0.0
    )


def _columns(kernel: Kernel, targets: Tensor, earlier: Tensor, pivots: Tensor, pivot_factor: Tensor) -> Tensor:
    """Returns further columns of the factor, (m, b), for these pivots, (b,), from the earlier ones, (m, j)."""
    cross = kernel.cross(targets, targets[pivots])  # (m, b)
    check_finite(cross, kernel, target_names(), lambda at: f"target {int(pivots[at])}")
    cross = cross.addmm_(earlier, earlier[pivots].T, alpha=-1)
    columns: Tensor = torch.linalg.solve_triangular(pivot_factor.T, cross, upper=True, left=False)
    columns[pivots] = pivot_factor
    return columns


def num_followed(num_targets: int) -> int:
    """Returns the number of targets, or of the pivots that stand for many, that kernels other than linear follow."""
    if num_targets <= FEW_TARGETS:
        return num_targets
    return min(MOST_PIVOTS, num_targets, max(PIVOTS_AT_ONCE, FACTOR_BYTES // (8 * num_targets)))


def _next_pivots(kernel: Kernel, targets: Tensor, factor: Tensor, rest: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Chooses further pivots among the targets with the largest (weighted) rest: row numbers (b,), and the lower
    triangular factor of their posterior covariance (b, b).
    """
    # Of copies one is chosen: the others have no variance left after it.
    top = rest.topk(min(PIVOTS_AT_ONCE, most, len(rest))).indices
    covariance = kernel.cross(targets[top], targets[top]) - factor[top] @ factor[top].T
    prior = kernel.diagonal(targets[top])
    covariance.diagonal().copy_((prior - factor[top].square().sum(1)).clamp_min_(0))
    variance, order = covariance.diagonal().clone(), []
    columns = covariance.new_zeros(len(top), len(top))
    for step in range(len(top)):
        position = int((variance / prior).argmax())
        if float(variance[position]) <= 10 * REST * float(prior[position]):
            break
        column = covariance[:, position] - columns[:, :step] @ columns[position, :step]
        columns[:, step] = column / variance[position].sqrt()
        variance = variance - columns[:, step].square()
        variance[position] = -torch.inf
        order.append(position)
    positions = torch.tensor(order, dtype=torch.int64, device=top.device)
    return top[positions], columns[positions][:, : len(order)].tril()


def triangle(rows: Tensor, weights: Tensor | None = None) -> Tensor:
    """Returns R with R'R = A'WA of many rows A, (m, d) -> (min(m, d), d), by QR decompositions of parts of them."""
    factor: Tensor | None = None
    weight_parts = [None] * len(rows) if weights is None else weights.split(CHUNK_ROWS)
    for part, part_weights in zip(rows.split(CHUNK_ROWS), weight_parts, strict=False):
        scaled_part = scale_rows(part.double(), part_weights)
        part_rows = scaled_part if factor is None else torch.cat([factor, scaled_part])
        factor = torch.linalg.qr(part_rows, mode="r").R
    assert factor is not None
    return factor


def stand_ins(targets: Tensor, weights: Tensor | None = None) -> Tensor | None:
    """Returns the d rows that stand for many targets under the linear kernel, each of weight 1, (m, d) -> (d, d);
    `None` for few targets.
    """
    if len(targets) <= max(FEW_TARGETS, targets.shape[1]):
        return None
    return triangle(targets, weights)


def given_weights(pivots: Pivots, noise_variance: float, weights: Tensor | None) -> tuple[Tensor, float]:
    """Computes the projections on the targets' values, observed with noise, from the kernel with the pivots.

    With D the noise of the targets, the rest included, and G = L' D^-1 L, the values explain l(x)' G (I + G)^-1 l(x) of
    the variance of f(x). Without noise, the pivots' values are all that is known.

    Returns:
        `tuple`: (r, r) weights of the kernel with the pivots, and the largest share of a variance that they explain.
    """
    if noise_variance == 0:
        return pivots.combination(torch.eye(len(pivots.rows)).to(pivots.factor)), 1.0
    noise = noise_variance + pivots.rest if weights is None else noise_variance / weights + pivots.rest  # (m,)
    root = triangle(pivots.factor, 1 / noise)  # (r, r), R'R = G
    size = root.new_tensor(float(root.square().sum()))
    inner = torch.linalg.cholesky(root @ root.T + torch.eye(len(root)).to(root))
    functions = torch.linalg.solve_triangular(inner, root, upper=False)  # F'F = G (I + G)^-1
    return pivots.combination(functions), float(size / (1 + size))
