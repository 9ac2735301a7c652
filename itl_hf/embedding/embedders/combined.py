r"""Several kinds of features of a row as one: a weighted sum of kernels, written as features.

Each part's features are divided by their norm, row by row, multiplied by the square root of the part's weight, and
concatenated. So the linear kernel of the rows is exactly

    k(x, y) = sum_i w_i cos_i(x, y),    cos_i(x, y) = <f_i(x), f_i(y)> / (|f_i(x)| |f_i(y)|),

and k(x, x) = sum_i w_i. Rows are scaled to unit norm, not by a scale measured on the pool, because this brings hidden
states of norm 50 and gradients of norm 0.01 to the same size without knowing the pool: a row's features depend on that
row alone, and can be stored before the pool is complete. The price is that the parts' own norms no longer count. With
`unit_norm=False` the features stay as they are and k(x, y) = sum_i w_i <f_i(x), f_i(y)>.

Selection prepares the whole row, and by default gives every column the same variance, which would weight a part by its
number of columns. The attribute `preparation` makes `Selector` prepare each part by itself and keep the weights.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from itl_hf.embedding.embedders.base import Embedded, Embedder, TwoStageEmbedder, check_embedder
from itl_hf.gp.standardization import Standardization
from itl_hf.text import Row

if TYPE_CHECKING:
    from torch import Tensor

    from itl_hf.embedding.embedders.base import Fingerprint


class Combined(TwoStageEmbedder):
    """Concatenates the features of several embedders, scaled so that their kernels add up: k = sum_i w_i k_i.

    Args:
        parts (`Sequence[Embedder]`):
            Two or more, such as `[HiddenStates(model), Gradients(model)]`. They may share a model; each makes its own
            pass over it.
        weights (`Sequence[float]`, *optional*):
            A positive weight for each part. Defaults to 1 for all.
        unit_norm (`bool`, *optional*, defaults to `True`):
            Whether each part's rows are scaled to norm 1, so that its kernel is the cosine. A row of zeros (a gradient
            without labels) stays zero. `False` takes the features as they are; the weights then have to bring them to a
            common scale.

    Raises:
        `ValueError`: If there are fewer than two parts, or `weights` is not one positive number for each.
        `TypeError`: If a part is not an `Embedder`.

    Example:
        >>> from itl_hf import Gradients, HiddenStates, Selector
        >>> both = Combined([HiddenStates(model), Gradients(model)], weights=[1, 2])
        >>> len(Selector(both).select(pool, targets, 4))
        4
    """

    def __init__(
        self, parts: Sequence[Embedder], weights: Sequence[float] | None = None, *, unit_norm: bool = True
    ) -> None:
        self.parts = list(parts)
        for number, part in enumerate(self.parts):
            check_embedder(part, f"part {number}")
        if len(self.parts) < 2:
            raise ValueError(f"Combined needs two or more embedders, got {len(self.parts)}.")
        self.weights = [1.0] * len(self.parts) if weights is None else [float(weight) for weight in weights]
        if len(self.weights) != len(self.parts):
            raise ValueError(f"{len(self.parts)} embedders need as many weights, got {len(self.weights)}.")
        for number, weight in enumerate(self.weights):
            if not 0 < weight < math.inf:
                raise ValueError(f"weights must be positive and finite, got {weight} for part {number}.")
        self.unit_norm = unit_norm
        self.storage_dtype = "float16" if {part.storage_dtype for part in self.parts} == {"float16"} else "float32"
        # Each part is prepared as it would be by itself, then multiplied by its weight.
        dimensions = [part.dimension for part in self.parts]
        self.preparation = Standardization(
            "dimensions", unit=True, parts=tuple(zip(dimensions, self.weights, strict=True))
        )

    @property
    def dimension(self) -> int:
        """Number of columns of a feature row: the sum over the parts."""
        return sum(part.dimension for part in self.parts)

    def for_targets(self, targets: Sequence[Row]) -> Combined:
        """Returns the embedder to use for pool and targets, each part being the one that it chooses itself."""
        parts = [part.for_targets(targets) for part in self.parts]
        return Combined(parts, self.weights, unit_norm=self.unit_norm)

    def compute_device(self) -> str:
        """Returns the device of the first part."""
        return self.parts[0].compute_device()

    def fingerprint(self) -> Fingerprint:
        """Returns the parts' entries with the prefixes `part0.`, `part1.`, ..., and how the parts are combined."""
        flat: Fingerprint = {"embedder": "combined", "parts": len(self.parts), "unit_norm": self.unit_norm}
        for number, (part, weight) in enumerate(zip(self.parts, self.weights, strict=True)):
            flat[f"part{number}.weight"] = weight
            flat |= {f"part{number}.{name}": value for name, value in part.fingerprint().items()}
        return flat

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raises `ValueError` for rows that any part cannot embed, without running a model."""
        for part in self.parts:
            part.check(rows, first_row)

    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> list[Any]:
        """Returns what the `prepare` of each part returns."""
        return [part.prepare(rows, first_row) for part in self.parts]

    def embed_prepared(self, prepared_rows: list[Any], *, on_rows: Callable[[int], None] | None = None) -> Embedded:
        """Computes the features from what `prepare` returned.

        Columns: `tokens` of the first part that has it; of each part `part0.norm` and so on, the norm before scaling,
        and its other columns under names of this form.

        Args:
            prepared_rows (`list`):
                The result of `prepare`.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time the last part has embedded k more rows.
        """
        features: list[Tensor] = []
        columns: dict[str, Tensor] = {}
        last = len(self.parts) - 1
        for number, (part, weight) in enumerate(zip(self.parts, self.weights, strict=True)):
            # A row is embedded when all parts are: only the last part moves the progress bar.
            result = part.embed_prepared(prepared_rows[number], on_rows=on_rows if number == last else _ignore)
            embedded = result if isinstance(result, Embedded) else Embedded(result)
            norms = embedded.features.norm(dim=1)  # (B,)
            weighted_features = embedded.features * math.sqrt(weight)  # (B, d_i)
            divisors = norms.where(norms > 0, 1.0)[:, None]
            features.append(weighted_features / divisors if self.unit_norm else weighted_features)
            part_columns = {"norm": norms} | embedded.columns
            if "tokens" in part_columns:
                columns.setdefault("tokens", part_columns.pop("tokens"))
            columns |= {f"part{number}.{name}": values for name, values in part_columns.items()}
        return Embedded(torch.cat(features, 1), columns)

    def report_truncation(self) -> None:
        """Makes each part warn about the rows that it cut."""
        for part in self.parts:
            part.report_truncation()


def _ignore(_count: int) -> None:
    """Takes the place of `on_rows`: without it a part would report rows that it cut by itself."""
