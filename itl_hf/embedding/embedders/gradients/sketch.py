"""Projects gradient matrices to one small vector for each row, which preserves inner products in expectation.

The gradient of a linear layer is a sum of outer products over positions, G = sum_t g_t a_t'. Both sides are projected
before the product is taken, so that G itself is never computed: C = P_out G P_in', a Kronecker projection of vec(G).
The cores C of all layers are then added up, under signs of each layer's own, and a CountSketch takes the sum to
`dimension` numbers: e = S sum_l (r_l c_l' * C_l) = sum_l S_l vec(C_l). The signs make the S_l independent enough for
E<e, e'> = sum_l <G_l, G_l'>: an unbiased estimate of the empirical NTK, from features whose kernel is therefore PSD.

The projections have orthonormal rows (up to scale) with random signs, which loses less than Gaussian ones once their
rank is not small beside the layer's width; a side no wider than its rank is not projected at all. One orthonormal basis
serves all sides of one width, the signs differ: memory does not grow with the number of layers. What is lost is noise:
about 1 / sqrt(dimension) in the inner product of unit vectors, and some more from the projections.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from itl_hf.embedding.embedders.gradients.layers import Layer

#: Part of fingerprints: raised whenever equal seeds would no longer give equal matrices.
VERSION = 1


class KroneckerSketch:
    """Projects with random matrices that depend only on the seed, the layer's name and its shape.

    The matrices are drawn on the CPU, so that they are equal in all processes and on all devices. Modules of one
    `group` (such as q, k and v of an attention) share the projection of their inputs, which is then computed once.

    Args:
        dimension (`int`):
            Number of columns of a feature row, D.
        rank (`int`):
            Highest dimension that the output side of a layer is projected to, k_out. The input side gets a quarter of
            it, since measurements show that noise on that side matters less (recipes/benchmarks/gradients.py, part
            `quality`).
        seed (`int`):
            Another seed gives an independent sketch.

    Example:
        >>> sketch = KroneckerSketch(dimension=64, rank=8, seed=0)
        >>> sketch.fold(torch.ones(2, 8, 2)).shape
        torch.Size([2, 64])
    """

    def __init__(self, dimension: int, rank: int, seed: int) -> None:
        for name, value in (("dimension", dimension), ("rank", rank)):
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}.")
        self.dimension = dimension
        self.rank = rank
        self._ranks = {"inputs": max(1, rank // 4), "outputs": rank}
        self.seed = seed
        self._cache: dict[tuple[object, ...], Tensor] = {}

    def inputs(self, layer: Layer, values: Tensor, scale: Tensor | None = None) -> Tensor:
        """Projects the input of a layer, (..., d_in) to (..., k_in), without the layer's own signs.

        Args:
            layer (`Layer`):
                The layer, whose `group` and width determine the projection.
            values (`Tensor`):
                Shape (..., d_in).
            scale (`Tensor`, *optional*):
                Shape (d_in,); `values` are multiplied by it first.
        """
        return self._project("inputs", layer.group, values, scale)

    def outputs(self, layer: Layer, values: Tensor, scale: Tensor | None = None) -> Tensor:
        """Projects the gradient of a layer's output, (..., d_out) to (..., k_out), with the layer's signs `r`."""
        projection = self._project("outputs", layer.key, values, scale)
        return projection * self._signs("rows", layer.key, projection)

    def columns(self, layer: Layer, projection: Tensor) -> Tensor:
        """Multiplies projected inputs (..., k_in) by the layer's signs `c`."""
        return projection * self._signs("columns", layer.key, projection)

    def fold(self, core: Tensor) -> Tensor:
        """Computes the CountSketch of a sum of cores.

        Its buckets are balanced: each gets the same number of entries, which causes fewer collisions than independent
        buckets do.

        Args:
            core (`Tensor`):
                Shape (B, k_out, k_in).

        Returns:
            `Tensor`: Shape (B, D).
        """
        rows, size = len(core), core[0].numel()
        bucket_size = -(-size // self.dimension)  # entries in a bucket
        name = f"{tuple(core.shape[1:])}"
        padded = torch.nn.functional.pad(core.flatten(1), (0, bucket_size * self.dimension - size))
        values = padded * self._signs("fold", name, padded)
        order = self._get_or_make(
            ("order", name, core.device), lambda: self._order(name, padded.shape[1]).to(core.device)
        )
        return values[:, order].view(rows, bucket_size, self.dimension).sum(1)

    def _order(self, name: str, size: int) -> Tensor:
        return torch.randperm(size, generator=self._generator("order", name, size))

    def _project(self, side: str, name: str, values: Tensor, scale: Tensor | None) -> Tensor:
        width = values.shape[-1]
        if width <= self._ranks[side]:
            return values if scale is None else values * scale
        basis = self._get_or_make(
            (side, width, values.dtype, values.device), lambda: self._basis(side, width).to(values)
        )
        signs = self._signs(side, name, values)
        # Computed anew each time: cheap compared with the product, while a cache would take memory for every layer.
        matrix = basis * (signs if scale is None else signs * scale)  # (k, d)
        return values @ matrix.T

    def _basis(self, side: str, width: int) -> Tensor:
        """Returns a matrix (k, d), float64, with orthogonal rows of length sqrt(d / k)."""
        rank = self._ranks[side]
        normal = torch.randn(width, rank, generator=self._generator(side, "", width), dtype=torch.float64)
        columns, triangle = torch.linalg.qr(normal)
        # These signs make the decomposition unique, independent of the LAPACK in use.
        scale = (width / rank) ** 0.5
        basis: Tensor = (scale * columns * triangle.diagonal().sign()).T.contiguous()
        return basis

    def _signs(self, role: str, name: str, like: Tensor) -> Tensor:
        width = like.shape[-1]

        def draw_signs() -> Tensor:
            generator = self._generator(f"signs of {role}", name, width)
            return (2 * torch.randint(2, (width,), generator=generator) - 1).to(like)  # (width,)

        return self._get_or_make(("signs", role, name, width, like.dtype, like.device), draw_signs)

    def _get_or_make(self, key: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    def _generator(self, role: str, name: str, width: int) -> torch.Generator:
        text = f"{self.seed} {self.rank} {role} {name} {width}"
        return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big"))


def unit_length(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Scales rows (B, D) to length 1, and returns them with their lengths (B,).

    The squares of numbers below 1e-19 are zero in float32, so rows are first divided by their largest number. Rows
    whose largest number is not a normal one with all of its digits become zeros.

    Example:
        >>> unit_length(torch.tensor([[3e-25, 4e-25], [0.0, 0.0]]))
        (tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]]), tensor([5.0000e-25, 0.0000e+00]))
    """
    info = torch.finfo(rows.dtype)
    largest = rows.abs().amax(1)  # (B,)
    vanishes = largest < info.tiny / info.eps
    scale = largest.masked_fill(vanishes, 1.0)
    ratios = rows.masked_fill(vanishes[:, None], 0.0) / scale[:, None]
    norms = ratios.norm(dim=1)
    return ratios / norms.masked_fill(vanishes, 1.0)[:, None], scale * norms
