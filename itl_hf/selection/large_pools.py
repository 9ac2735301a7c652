"""Pools that are too large to keep every row's projections on every pick.

The linear kernel keeps two numbers per row and streams the rest. Other kernels keep, for each row, one number for every
target and two for every pick. Where that would take more than `FACTOR_BYTES`, the default kernel is replaced by the
linear one, and a kernel that was asked for is approximated by finite features; the record says what that loses.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp import many_targets
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Linear
from itl_hf.gp.nystroem import FeatureMap
from itl_hf.gp.pool import Pool
from itl_hf.selection.defaults import KernelSpec

#: Memory that the projections of a process's rows may take.
FACTOR_BYTES = 4 * 2**30
LANDMARKS = 1024
SAMPLE_ROWS = 1000


def exceeds_memory(pool: Pool, targets: Tensor, num_picks: int) -> bool:
    """Whether the projections of one process's rows on the targets and on all picks take more than `FACTOR_BYTES`."""
    rows = pool.num_rows / distributed.world_size()
    return rows * (many_targets.num_followed(len(targets)) + 2 * num_picks) * 4 > FACTOR_BYTES


def fit_to_memory(spec: KernelSpec, pool: Pool, targets: Tensor, num_picks: int) -> KernelSpec:
    """The kernel as it is, or the linear one where the default kernel's projections would not fit."""
    if spec.kernel.linear or spec.rule != "auto" or not exceeds_memory(pool, targets, num_picks):
        return spec
    name = spec.kernel.describe()["kernel"]
    reason = f"auto: linear, because {pool.num_rows} rows and {num_picks} picks are too many for {name}"
    return replace(spec, kernel=Linear(), rule=reason)


def approximate(gp: GaussianProcess, pool: Pool, num_picks: int) -> tuple[GaussianProcess, dict[str, Any] | None]:
    """The Gaussian process with finite features in place of a kernel whose projections would not fit.

    Landmarks are the targets and evenly spaced rows of the pool. The pool maps its rows to these features from then on.

    Returns:
        `tuple`: The Gaussian process and, for the record, what the approximation loses; `None` if nothing was changed.
    """
    if gp.kernel.linear or not exceeds_memory(pool, gp.targets, num_picks):
        return gp, None
    sample = pool.rows(pool.spaced_rows(SAMPLE_ROWS))
    landmarks = torch.cat([gp.targets[:LANDMARKS], pool.rows(pool.spaced_rows(LANDMARKS))])
    features = FeatureMap.fit(gp.kernel, landmarks)
    loss = {
        "landmarks": len(landmarks),
        "lost_of_pool": features.lost_share(sample),
        "lost_of_targets": features.lost_share(gp.targets),
    }
    pool.set_feature_map(features)
    return replace(gp, kernel=Linear(), targets=features(gp.targets), pivots=None), loss
