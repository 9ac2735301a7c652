"""How large the observation noise should be when nobody says: a rule that needs no labels.

The picks that a cluster of targets receives before ITL looks elsewhere grow in proportion to the noise variance: too
small, and ITL runs out of things to learn and wanders off the task; too large, and it collapses to the nearest rows of
the commonest task. So the noise variance is set to the number of picks there are for each direction that the targets
span.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from itl_hf.gp.kernels import Kernel


def effective_rank(rows: Tensor, kernel: Kernel | None = None) -> float:
    """Number of directions that rows really span: exp of the entropy of the normalised spectrum of their Gram matrix.

    Args:
        rows (`Tensor`):
            (m, d) prepared rows.
        kernel (`Kernel`, *optional*):
            Covariance whose matrix of `rows` is meant; linear when left out.

    Source: Roy & Vetterli, "The effective rank" (2007), on the eigenvalues of the Gram matrix.

    Example:
        >>> import torch
        >>> round(effective_rank(torch.eye(3)), 6)
        3.0
    """
    rows = rows.double()
    if kernel is None or kernel.linear:
        energy = torch.linalg.svdvals(rows).square()
    else:
        energy = torch.linalg.eigvalsh(kernel.cross(rows, rows)).clamp_min(0)
    share = energy / energy.sum().clamp_min(torch.finfo(torch.float64).tiny)
    return float(torch.special.entr(share).sum().exp())


def picks_per_direction(targets: Tensor, num_examples: int, kernel: Kernel | None = None) -> float:
    """Noise standard deviation sqrt(n / effective rank of the targets), for features with mean k(x, x) = 1.

    Derivation: let the rows of a cluster have correlation r with each other and with their target, and rows outside it
    correlation q with the target and none with the cluster's rows. After k picks from the cluster, its next row has
    covariance r (1 - r + noise) / (1 - r + noise + k r) with the target, an outside row still q, so the cluster keeps
    winning while k < (noise + 1 - r)(1 / q - 1 / r), with `noise` the variance. For r near 1 and q = r / 2 the turn
    comes at k = noise variance: with n / rank, each of the `rank` directions receives its share of the n picks before
    ITL turns to rows that are less about the targets.

    Args:
        targets (`Tensor`):
            (m, d) prepared target rows.
        num_examples (`int`):
            Picks to make.
        kernel (`Kernel`, *optional*):
            Covariance in use; linear when left out.
    """
    return math.sqrt(num_examples / effective_rank(targets, kernel))
