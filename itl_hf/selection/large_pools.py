"""What to do when a pool is too large to keep every row's projections on every pick.

The linear kernel keeps two numbers a row and streams the rest. Other kernels keep, for each row, one number for every
target and two for
every pick: past `FACTOR_BYTES` the default kernel gives way to the linear one, and a kernel that was asked for is
approximated by finite features, with what that loses in the record.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.kernels import Linear
from itl_hf.gp.nystroem import FeatureMap
from itl_hf.gp.pool import Pool, spaced_rows
from itl_hf.selection.defaults import Model

#: Memory that the projections of a process's rows may take.
FACTOR_BYTES = 4 * 2**30
LANDMARKS = 1024
SAMPLE_ROWS = 1000


def too_large(pool: Pool, targets: Tensor, picks: int) -> bool:
    """Whether the projections of the rows of one process on the targets and on all picks would not fit."""
    rows = pool.num_rows / distributed.world_size()
    return rows * (len(targets) + 2 * picks) * 4 > FACTOR_BYTES


def fit_to_memory(model: Model, pool: Pool, targets: Tensor, picks: int) -> Model:
    """The model, or the linear one where the default kernel would not fit."""
    if model.kernel.linear or model.chosen != "auto" or not too_large(pool, targets, picks):
        return model
    name = model.kernel.describe()["kernel"]
    reason = f"auto: linear, because {pool.num_rows} rows and {picks} picks are too many for {name}"
    return replace(model, kernel=Linear(), chosen=reason)


def approximate(gp: GaussianProcess, pool: Pool, picks: int) -> tuple[GaussianProcess, dict[str, Any]]:
    """The setting with finite features in place of a kernel that would not fit, and what that loses, for the record.

    Landmarks are the targets and evenly spaced rows of the pool. The pool is told to map its rows.
    """
    if gp.kernel.linear or not too_large(pool, gp.targets, picks):
        return gp, {}
    sample = pool.rows(spaced_rows(pool.num_rows, SAMPLE_ROWS))
    landmarks = torch.cat([gp.targets[:LANDMARKS], pool.rows(spaced_rows(pool.num_rows, LANDMARKS))])
    features = FeatureMap.fit(gp.kernel, landmarks)
    loss = {
        "landmarks": len(landmarks),
        "lost_of_pool": features.lost(sample),
        "lost_of_targets": features.lost(gp.targets),
    }
    pool.through(features)
    return replace(gp, kernel=Linear(), targets=features(gp.targets)), {"approximation": loss}
