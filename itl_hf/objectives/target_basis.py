"""One inner product a pick instead of two, for rows that carry their covariances with the targets.

The second column of a pick (ITL's projection given the targets, VTL's covariance with them) is the row's inner product
with a direction in the span of the run's first columns' directions and of P A', the targets seen from the posterior
before the run:

    Q z = P z - P A' (A P A' + r I)^-1 A P z.

So a row that carries its r covariances with a basis of the targets' rows, the *anchors*, finds the second column of b
picks with b + r multiplications each in place of d.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: A combination is used if it is the direction but for this share of it, and if no weight is so large that rounding of
#: what rows carry would be felt.
MOST_REST, LARGEST_WEIGHT = 1e-8, 32.0


@dataclass(frozen=True)
class Anchored:
    """What some consecutive picks mean to rows that carry covariances with r anchors.

    Args:
        falls (`Tensor`):
            (b, r), the anchors' first columns: a pick lowers a row's covariances by these times its own.
        weights (`Tensor`, *optional*):
            (b, b + r), the second column from the first ones and the covariances; `None` where the direction must be
            multiplied with.
    """

    falls: Tensor
    weights: Tensor | None

    @classmethod
    def of(cls, directions: list[Tensor], earlier: Tensor, anchors: Tensor) -> Anchored:
        """From the directions of both columns, (b, d) each, those of the first before them, (j, d), and the anchors."""
        first, second = directions
        seen = anchors - (anchors @ earlier.T) @ earlier  # (r, d), the anchors under the posterior before
        basis = torch.cat([first, seen])
        weights = torch.linalg.lstsq(basis.T, second.T).solution.T  # (b, b + r)
        rest = (second - weights @ basis).norm(dim=1)
        exact = bool((rest <= MOST_REST * second.norm(dim=1)).all() & (weights.abs() <= LARGEST_WEIGHT).all())
        return cls(first @ anchors.T, weights if exact else None)

    def to(self, dtype: torch.dtype) -> Anchored:
        """The same in another precision."""
        return Anchored(self.falls.to(dtype), None if self.weights is None else self.weights.to(dtype))

    def part(self, start: int, stop: int) -> Anchored:
        """Some of the picks, as `tell` needs them."""
        return Anchored(self.falls[start:stop], None)

    def columns(self, rows: Tensor, directions: Tensor, carried: Tensor) -> Tensor:
        """Both columns of all picks, (B, d), (b, d), (r, B) -> (2, b, B)."""
        assert self.weights is not None
        both = rows.new_empty(2, len(rows), len(directions))
        torch.mm(rows, directions.T, out=both[0])
        torch.mm(carried.T, self.weights[:, len(directions) :].T, out=both[1])
        both[1].addmm_(both[0], self.weights[:, : len(directions)].T)
        return both.mT

    def tell(self, carried: Tensor, first: Tensor, sign: float) -> None:
        """Covariances after the picks (or before them, with `sign` -1), in place, (r, B), (b, B)."""
        carried.addmm_(self.falls.T, first, alpha=-sign)


def pays(anchors: Tensor, picks: int) -> bool:
    """Whether carrying (r, d) anchors is less work than a second inner product, in runs of so many picks."""
    return 2 * len(anchors) + picks <= anchors.shape[1] // 2
