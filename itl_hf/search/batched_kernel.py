"""The kernel between rows of several targets at once."""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.kernels import RBF, Cosine, Kernel


class Pairs:
    """The kernel between sets of rows of several targets, (B, P, d), (B, Q, d) -> (B, P, Q), of rows made `ready`.

    Kernels of inner products take all targets at once, and their rows are brought to unit norm once rather than for
    each pick; others are evaluated target by target.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.unit = isinstance(kernel, Cosine) or (isinstance(kernel, RBF) and kernel.on == "cosine")

    def ready(self, rows: Tensor) -> Tensor:
        """(B, P, d) rows as this expects them."""
        return torch.nn.functional.normalize(rows, dim=-1) if self.unit else rows

    def __call__(self, rows: Tensor, others: Tensor) -> Tensor:
        """See the class."""
        if not (self.unit or self.kernel.linear):
            return torch.stack([self.kernel.cross(left, right) for left, right in zip(rows, others, strict=True)])
        # One row against many: the many on the left are read at twice the speed.
        product = torch.bmm(others, rows.mT).mT if rows.shape[1] == 1 else torch.bmm(rows, others.mT)
        return product.sub_(1).div_(self.kernel.lengthscale).exp_() if isinstance(self.kernel, RBF) else product
