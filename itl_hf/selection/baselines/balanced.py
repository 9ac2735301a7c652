"""Round-robin in which kinds of targets take turns, however many targets each kind has."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.selection.baselines.nearest import RoundRobin

_TARGETS_AT_ONCE = 1024


@dataclass(frozen=True)
class BalancedRoundRobin(RoundRobin):
    """Round-robin that gives each target a share of the turns which falls with the number of targets like it.

    The share of target a is its weight over the sum, over all targets b, of weight(b) times the squared correlation
    k(a, b)^2 / (k(a, a) k(b, b)) under the selection's kernel. Of a task with many similar targets each gets few turns,
    so that rare tasks get as many picks as frequent ones. If all targets are equally like each other, it is
    `RoundRobin`.
    Source: none; it was made for the benchmark of many pools (recipes/benchmarks/README.md), to separate what ITL owes
    to the balance between tasks from what it owes to the choice of rows.

    Args:
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[1.0, 0.0], [1.0, 0.1], [1.0, 0.2], [0.0, 1.0], [0.1, 1.0]]
        >>> targets = [[1.0, 0.0], [1.0, 0.01], [1.0, 0.02], [0.0, 1.0]]
        >>> options = {"kernel": "linear", "standardize": False}
        >>> select_rows(rows, targets, 2, acquisition="round_robin", **options).indices
        array([0, 1])
        >>> select_rows(rows, targets, 2, acquisition="balanced_round_robin", **options).indices
        array([3, 0])
    """

    name: str = "balanced_round_robin"

    def turn_weights(self, gp: GaussianProcess) -> Tensor:
        """Returns the share of turns of each target, (m,) float64."""
        weights = torch.ones_like(gp.targets[:, 0]) if gp.target_weights is None else gp.target_weights
        scale = gp.kernel.diagonal(gp.targets).clamp_min(torch.finfo(torch.float64).tiny).sqrt()  # (m,)
        parts = torch.split(gp.targets, _TARGETS_AT_ONCE)
        likeness = [
            (gp.kernel.cross(part, gp.targets) / torch.outer(part_scale, scale)).square() @ weights
            for part, part_scale in zip(parts, torch.split(scale, _TARGETS_AT_ONCE), strict=True)
        ]
        # Rounded, so that targets which are equally like the others are tied on every machine.
        return weights / torch.cat(likeness).clamp_min(weights).round(decimals=9)
