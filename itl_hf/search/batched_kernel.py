"""The kernel between rows of several targets at once."""

from __future__ import annotations

import torch
from torch import Tensor

from itl_hf.gp.kernels import RBF, Cosine, ExponentialCosine, Kernel, unit_rows


class BatchedKernel:
    """The kernel between sets of rows of several targets, (B, P, d), (B, Q, d) -> (B, P, Q), of rows from `prepare`.

    Kernels of inner products are computed for all targets at once, and their rows are scaled to unit norm once rather
    than for each pick. Other kernels are computed target by target.

    Args:
        kernel (`Kernel`):
            Covariance function on prepared features.
    """

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        uses_cosine = isinstance(kernel, Cosine | ExponentialCosine)
        self.uses_unit_norm = uses_cosine or (isinstance(kernel, RBF) and kernel.on == "cosine")

    def prepare(self, rows: Tensor) -> Tensor:
        """Returns (B, P, d) rows in the form that calls expect."""
        return unit_rows(rows) if self.uses_unit_norm else rows

    def __call__(self, rows: Tensor, others: Tensor) -> Tensor:
        """Computes the kernel, (B, P, d), (B, Q, d) -> (B, P, Q)."""
        if not (self.uses_unit_norm or self.kernel.linear):
            return torch.stack([self.kernel.cross(left, right) for left, right in zip(rows, others, strict=True)])
        # One row against many: it is twice as fast with the many on the left.
        product = torch.bmm(others, rows.mT).mT if rows.shape[1] == 1 else torch.bmm(rows, others.mT)
        if isinstance(self.kernel, ExponentialCosine):
            return self.kernel.of_cosines(product)
        return product.sub_(1).div_(self.kernel.lengthscale).exp_() if isinstance(self.kernel, RBF) else product
