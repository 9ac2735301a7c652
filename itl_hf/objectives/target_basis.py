"""The second projection of a pick from the row's covariances with the targets, instead of a second inner product.

ITL and VTL need two projections of every row on every pick. The first is an inner product with a direction u. The
second one's direction w lies in the span of the directions u of the picks verified together and of P A', the targets
under the posterior P before these picks:

    Q z = P z - P A' (A P A' + r I)^-1 A P z        (z a pick, Q the posterior given the targets' values too)

because the first term is a multiple of u and the second a combination of the columns of P A'. So if each row keeps its
covariances with a basis of r rows that spans the targets (`target_basis`, `target_cov`), the second projections on b
picks take b + r multiplications per row and pick instead of d.

The identity is that of a Gaussian conditioned on f(A): Rasmussen & Williams (2006), eq. 2.24.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: A combination is used if it equals the direction up to this share of its norm, and if no weight is so large that
#: rounding errors of the rows' covariances would matter.
MAX_RESIDUAL, MAX_WEIGHT = 1e-8, 32.0


@dataclass(frozen=True)
class TargetBasisBlock:
    """Consecutive picks, for rows that keep their covariances with the r rows of the target basis.

    Args:
        basis_projections (`Tensor`):
            (b, r), first projections of the basis: a pick lowers a row's covariances by these times its own.
        weights (`Tensor`, *optional*):
            (b, b + r), second projections from the first ones and the covariances; `None` where the inner product must
            be computed.
    """

    basis_projections: Tensor
    weights: Tensor | None

    @classmethod
    def from_directions(
        cls, directions: list[Tensor], earlier_directions: Tensor, target_basis: Tensor
    ) -> TargetBasisBlock:
        """Computes the weights.

        Args:
            directions (`list[Tensor]`):
                Of the first and the second projections, (b, d) each.
            earlier_directions (`Tensor`):
                (j, d), of the first projections on all picks before.
            target_basis (`Tensor`):
                (r, d).
        """
        first, second = directions
        posterior_basis = target_basis - (target_basis @ earlier_directions.T) @ earlier_directions  # (r, d), A P
        basis = torch.cat([first, posterior_basis])
        weights = torch.linalg.lstsq(basis.T, second.T).solution.T  # (b, b + r)
        residual = (second - weights @ basis).norm(dim=1)
        exact = bool((residual <= MAX_RESIDUAL * second.norm(dim=1)).all() & (weights.abs() <= MAX_WEIGHT).all())
        return cls(first @ target_basis.T, weights if exact else None)

    def to(self, dtype: torch.dtype) -> TargetBasisBlock:
        """Returns the same picks in another precision."""
        weights = None if self.weights is None else self.weights.to(dtype)
        return TargetBasisBlock(self.basis_projections.to(dtype), weights)

    def part(self, start: int, stop: int) -> TargetBasisBlock:
        """Returns some of the picks, for `update` only."""
        return TargetBasisBlock(self.basis_projections[start:stop], None)

    def project(self, rows: Tensor, directions: Tensor, target_cov: Tensor) -> Tensor:
        """Computes both projections on all picks, (B, d), (b, d), (r, B) -> (2, b, B)."""
        assert self.weights is not None
        projections = rows.new_empty(2, len(rows), len(directions))
        torch.mm(rows, directions.T, out=projections[0])
        torch.mm(target_cov.T, self.weights[:, len(directions) :].T, out=projections[1])
        projections[1].addmm_(projections[0], self.weights[:, : len(directions)].T)
        return projections.mT

    def update(self, target_cov: Tensor, first_projections: Tensor, sign: float) -> None:
        """Changes the covariances in place to those after the picks, or before them with `sign` -1, (r, B), (b, B)."""
        target_cov.addmm_(self.basis_projections.T, first_projections, alpha=-sign)


def is_cheaper(target_basis: Tensor, num_picks: int) -> bool:
    """Whether keeping covariances with (r, d) basis rows is less work than a second inner product, in runs of so many
    picks.
    """
    return 2 * len(target_basis) + num_picks <= target_basis.shape[1] // 2
