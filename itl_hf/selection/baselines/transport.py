"""Unbalanced optimal transport from the targets to the pool."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from itl_hf import distributed
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.search.greedy import GreedyPicks
from itl_hf.selection.baselines.influence import Influence, check_rates
from itl_hf.selection.baselines.ranking import rank_rows, without_rounding
from itl_hf.selection.protocol import Noise, Reads, SelectionRequest, check_whole, picks_in_order

#: The iterations end when no logarithm of a target's scaling changes by more than this.
TOLERANCE = 1e-11


@dataclass(frozen=True)
class UnbalancedTransport:
    """Picks the rows that receive most mass when the targets' mass is transported to the pool.

    The plan T (m, N) minimises sum_ij C_ij T_ij + eps KL(T | a b') + lambda KL(T' 1 | b) with T 1 = a, where
    C_ij = (1 - s_ij) / 2, s_ij is the mean cosine of target i and row j over checkpoints, and a and b are uniform. The
    score of row j is sum_i T_ij. Targets keep their whole mass, and rows may receive much or nothing, the more freely
    the smaller lambda is.

    Source: Nayak et al., "A Critical Look at Targeted Instruction Selection" (ICML 2026, arXiv 2602.14696;
    `selection/uot.py` of their code, from which the defaults are), solved there by `sinkhorn_unbalanced` of the library
    POT. Here the same scaling iterations (Chizat et al., "Scaling Algorithms for Unbalanced Transport Problems", 2016)
    run on logarithms until they have converged, so that a small `reg` does not underflow. The cosines are between
    features as the embedder returned them, which are to be gradients, as for `LESS`. Rows that may not be picked take
    part in the transport. Each process keeps the cosines of its rows with all targets in memory.

    Args:
        reg (`float`, *optional*, defaults to 0.01):
            eps, the weight of the entropy. Large values spread a target's mass over more rows.
        pool_penalty (`float`, *optional*, defaults to 0.0001):
            lambda, the weight of the deviation from equal masses of the rows.
        learning_rates (`Sequence[float]`, *optional*, defaults to `(1.0,)`):
            Weights of the checkpoints whose features are concatenated in a row, each of the same width.
        max_iterations (`int`, *optional*, defaults to 10000):
            Largest number of iterations.
        noise_std (`float` or `"auto"`, *optional*, defaults to `"auto"`):
            Noise of the Gaussian process that the gains are measured with; as in `ITL`.
        target_noise_std (`float`, *optional*):
            As in `ITL`.

    Raises:
        `RuntimeError`: If the iterations did not converge.

    Example:
        >>> from itl_hf import select_rows
        >>> rows = [[0.1, 1.0], [1.0, 0.1], [-1.0, 0.0]]
        >>> select_rows(rows, [[1.0, 0.0]], 1, acquisition="unbalanced_transport").indices
        array([1])
    """

    reg: float = 0.01
    pool_penalty: float = 0.0001
    learning_rates: Sequence[float] = (1.0,)
    max_iterations: int = 10_000
    noise_std: Noise = "auto"
    target_noise_std: float | None = None
    name: str = "unbalanced_transport"
    reads: ClassVar[Reads] = "raw features"

    def __post_init__(self) -> None:
        for name in ("reg", "pool_penalty"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)!r}")
        check_whole("max_iterations", self.max_iterations, 1)
        object.__setattr__(self, "learning_rates", check_rates(self.learning_rates))

    def pick(self, pool: Pool, gp: GaussianProcess, request: SelectionRequest) -> GreedyPicks:
        """Picks the rows with most mass; ties go to the lowest row number."""
        scores = distributed.gather_rows(self.log_mass(self._log_kernel(pool, request), pool.num_rows)).cpu()
        order = rank_rows(without_rounding(scores, 1 / self.reg), request.exclude)
        return picks_in_order(order, pool, gp, request)

    def log_mass(self, blocks: list[Tensor], num_rows: int) -> Tensor:
        """Returns the logarithm of the mass of each row of this process, up to one constant, (own rows,).

        Args:
            blocks (`list[Tensor]`):
                (m, B) each, -C / eps for the rows of this process, at least one, which may be empty.
            num_rows (`int`):
                N.

        Raises:
            `RuntimeError`: If the iterations did not converge.
        """
        num_targets, power = len(blocks[0]), self.pool_penalty / (self.pool_penalty + self.reg)
        log_u = torch.zeros(num_targets, dtype=torch.float64, device=blocks[0].device)
        for _ in range(self.max_iterations):
            # v_j = (1 / sum_i K_ij u_i)^power, u_i = 1 / sum_j K_ij v_j, with the uniform a and b left out of K.
            log_v = [-power * _log_received(block, log_u) for block in blocks]
            sums = torch.stack([(block + part).logsumexp(1) for block, part in zip(blocks, log_v, strict=True)])
            before, log_u = log_u, math.log(num_rows) - distributed.gather_rows(sums).logsumexp(0)
            if float((log_u - before).abs().max()) <= TOLERANCE:
                return torch.cat([(1 - power) * _log_received(block, log_u) for block in blocks])
        raise RuntimeError(
            f"unbalanced_transport did not converge in {self.max_iterations} iterations: use a larger reg "
            f"({self.reg}), a smaller pool_penalty ({self.pool_penalty}), or a larger max_iterations"
        )

    def _log_kernel(self, pool: Pool, request: SelectionRequest) -> list[Tensor]:
        """Returns -C / eps of the rows of this process, a block each, (m, B)."""
        features, anchors = Influence(None, self.learning_rates, name=self.name).similarity(pool, request, None)
        raw_pool, total = Pool(pool.source, device=pool.device), sum(self.learning_rates)
        empty = torch.zeros(len(anchors), 0, dtype=torch.float64, device=pool.device)
        cosines = [anchors @ features(rows).T / total for _, rows in raw_pool.blocks()]
        return [(cosine - 1) / (2 * self.reg) for cosine in cosines] or [empty]


def _log_received(block: Tensor, log_u: Tensor) -> Tensor:
    """Returns the logarithm of mean_i K_ij u_i, (m, B), (m,) -> (B,)."""
    return (block + log_u[:, None]).logsumexp(0) - math.log(len(log_u))
