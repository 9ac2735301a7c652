"""Whether all targets differ from even their nearest rows of the pool in one direction that they have in common.

Targets of a task are a cluster, so they always differ from the pool's mean; that is no shift. If they are an ordinary
cluster, each differs from its nearest rows in a direction of its own, as the pool's rows do from theirs. Another
language, template, system prompt or length moves all of them in the same direction.

Let n(a) be the mean of the K rows nearest to target a, and o(a) = a - n(a) its offset. The *common share* is the part
of the squared offsets that pairs of targets have in common,

    c = [sum over a != b of w_ab o(a).o(b) / sum of w_ab] / [mean over a of |o(a)|^2],

which is 1 if all offsets are equal and 0 on average if they are independent. The weight w_ab = 1 - max(0, cos) of n(a)
and n(b), measured from the pool's mean, is small for targets of the same cluster: these may share an offset because the
pool lacks rows of just their kind. The standard error is the jackknife's (Efron & Stein, 1981) over targets. The same
share of the nearest rows themselves, each compared with its own nearest rows, is the reference.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Kernel
from itl_hf.gp.pool import Pool, spaced_rows
from itl_hf.gp.reach import nearest_rows

#: Rows that each target is compared with.
NEAREST = 3
#: With fewer targets the standard error means nothing.
FEWEST_TARGETS = 6
#: Evenly spaced targets, and evenly spaced rows among the nearest ones, that are looked at.
MOST_TARGETS, MOST_ROWS = 256, 128
#: Evenly spaced rows that the pool's mean is taken of.
MEAN_ROWS = 1024


@dataclass(frozen=True)
class Shift:
    """How much of the targets' offsets from their nearest rows is common to all of them.

    Args:
        targets (`int`):
            Number of targets that were compared.
        common_share (`float`):
            Share c of the squared offsets that is common: 1 if all offsets are equal, 0 on average if they are
            independent, and a little below 0 by chance.
        standard_error (`float`):
            Its standard error.
        pool_share (`float`):
            The same share of the nearest rows of the pool, compared with their own nearest rows.
        groups (`float`):
            Effective number of groups that the targets' nearest rows form: 1 if they are all alike, m if each is
            unrelated to all others.
    """

    targets: int
    common_share: float
    standard_error: float
    pool_share: float
    groups: float

    @property
    def lower_bound(self) -> float:
        """The share that exceeds the pool's own by two standard errors at least."""
        return self.common_share - max(self.pool_share, 0.0) - 2 * self.standard_error


def measure_shift(pool: Pool, gp: GaussianProcess, nearest: Tensor) -> Shift | None:
    """Measures how much of the targets' offsets from their nearest rows is common to all of them, in one pass.

    Collective: under `torchrun` all processes must call it. Nothing is random.

    Args:
        pool (`Pool`):
            The pool.
        gp (`GaussianProcess`):
            Kernel and targets.
        nearest (`Tensor`):
            (k, m) int64, each target's nearest rows, nearest first: `AttainableVariance.nearest`.

    Returns:
        `Shift` or `None`: `None` if there are fewer than six targets, or no target or no row of the pool differs from
            its nearest rows.
    """
    count = min(NEAREST, len(nearest), pool.num_rows - 1)
    if len(gp.targets) < FEWEST_TARGETS or count < 1:
        return None
    mean = pool.once("mean", lambda: pool.rows(spaced_rows(pool.num_rows, MEAN_ROWS)).mean(0))  # (d,)
    target_indices = spaced_rows(len(gp.targets), MOST_TARGETS)
    near = nearest[:count, target_indices]  # (K, m)
    targets = gp.targets[target_indices]
    distinct = near.unique()
    rows = distinct[torch.tensor(spaced_rows(len(distinct), MOST_ROWS), device=distinct.device)]  # (r,)
    references = pool.rows(rows.tolist())  # (r, d)
    of_targets = _common_share(targets, _means(pool, near), mean)
    of_pool = _common_share(references, _means(pool, _other_rows(pool, rows, references, gp.kernel, count)), mean)
    if of_targets is None or of_pool is None:
        return None
    return Shift(len(targets), of_targets[0], of_targets[1], of_pool[0], of_targets[2])


def _other_rows(pool: Pool, rows: Tensor, references: Tensor, kernel: Kernel, count: int) -> Tensor:
    """Returns the nearest rows of each row, without the row itself, (count, r)."""
    _, nearest = nearest_rows(pool, references, kernel, count + 1)  # (count + 1, r)
    # The row itself is moved to the end. If it has so many copies that it is not in the list, the last one goes.
    order = (nearest == rows).to(torch.int8).argsort(dim=0, stable=True)
    return nearest.gather(0, order)[:count]


def _means(pool: Pool, near: Tensor) -> Tensor:
    """Returns the mean of the prepared rows in each column, (K, m) row numbers -> (m, d)."""
    distinct, positions = near.unique(return_inverse=True)
    rows = pool.rows(distinct.tolist())
    return torch.stack([rows[column] for column in positions]).mean(0)


def _common_share(rows: Tensor, means: Tensor, pool_mean: Tensor) -> tuple[float, float, float] | None:
    """Returns the common share of the offsets `rows - means`, its standard error, and the number of groups.

    `None` if all offsets are zero. If all rows have the same nearest rows, no pair has a weight, and the share is 0.
    """
    count = len(rows)
    offsets = rows - means  # (m, d)
    energy = offsets.square().sum(1)  # (m,)
    if float(energy.sum()) <= 1e-18 * float(rows.square().sum()):
        return None
    directions = torch.nn.functional.normalize(means - pool_mean, dim=1)
    likeness = (directions @ directions.T).clamp(0, 1)  # (m, m)
    groups = count**2 / float(likeness.square().sum().clamp_min(1e-300))
    weights = (1 - likeness).fill_diagonal_(0)
    if float(weights.sum()) <= 1e-9 * count**2:
        return 0.0, 0.0, groups
    products = weights * (offsets @ offsets.T)
    # Totals, and totals without each of the targets in turn.
    without = torch.arange(count + 1, device=rows.device) < count
    parts = [torch.cat([2 * matrix.sum(1), matrix.new_zeros(1)]) for matrix in (products, weights)]
    numerator, denominator = products.sum() - parts[0], weights.sum() - parts[1]  # (m + 1,)
    mean_energy = (energy.sum() - torch.cat([energy, energy.new_zeros(1)])) / (count - without.double())
    shares = numerator / denominator.clamp_min(1e-300) / mean_energy.clamp_min(1e-300)  # (m + 1,), all targets last
    jackknife = shares[:-1]
    variance = (jackknife - jackknife.mean()).square().sum() * (count - 1) / count
    return float(shares[-1]), float(variance.sqrt()), groups
