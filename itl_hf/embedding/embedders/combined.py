r"""Several views of a row as one: a weighted sum of kernels, written as features.

Each part's features are divided by their norm, row by row, and multiplied by the square root of the part's weight; then
they stand side by side. So the linear kernel of the rows is exactly

    k(x, y) = sum_i w_i cos_i(x, y),    cos_i(x, y) = <f_i(x), f_i(y)> / (|f_i(x)| |f_i(y)|),

and k(x, x) = sum_i w_i. Unit norm, and not a scale measured on the pool, because it brings hidden states of norm 50 and
gradients of norm 0.01 to the same size without knowing the pool: a row's features depend on that row alone, and can be
stored before the pool is complete. The price is that the parts' own norms no longer count. With `unit_norm=False` the
features stay as they are and k(x, y) = sum_i w_i <f_i(x), f_i(y)>.

Selection prepares the whole row, and by default gives every column the same variance, which would count a part by its
number of columns. `preparation` says how to do that part by part and keep the weights; `Selector` asks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch

from itl_hf.embedding.embedders.base import Embedded, Embedder, check_embedder
from itl_hf.gp.standardization import Standardization
from itl_hf.text import Row

if TYPE_CHECKING:
    from torch import Tensor

    from itl_hf.embedding.embedders.base import Fingerprint


class Combined(Embedder):
    """Features of several embedders side by side, scaled so that their kernels add up: k = sum_i w_i k_i.

    Args:
        parts (`Sequence[Embedder]`):
            Two or more, such as `[HiddenStates(model), Gradients(model)]`. They may share a model; each makes its own
            pass over it.
        weights (`Sequence[float]`, *optional*):
            A positive weight for each part. Defaults to 1 for all.
        unit_norm (`bool`, *optional*, defaults to `True`):
            Whether each part's rows are scaled to norm 1, so that its kernel is the cosine. A row of zeros (a gradient
            without labels) stays zero. `False` takes the features as they are, and the weights have to bring them to a
            common scale.

    Raises:
        `ValueError`: Fewer than two parts, or weights that are not one positive number for each.

    Example:
        >>> from itl_hf import Gradients, HiddenStates, Selector
        >>> both = Combined([HiddenStates(model), Gradients(model)], weights=[1, 2])
        >>> len(Selector(both).select(pool, targets, 4))
        4
    """

    prepares_ahead = True

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
        # Each part is standardized as it would be by itself, then multiplied by its weight.
        dimensions = [part.dimension for part in self.parts]
        self.preparation = Standardization(
            "dimensions", unit=True, parts=tuple(zip(dimensions, self.weights, strict=True))
        )

    @property
    def dimension(self) -> int:
        """Sum of the dimensions of the parts."""
        return sum(part.dimension for part in self.parts)

    def for_targets(self, targets: Sequence[Row]) -> Combined:
        """The embedder for pool and targets, given the targets: every part's own choice."""
        parts = [part.for_targets(targets) for part in self.parts]
        return Combined(parts, self.weights, unit_norm=self.unit_norm)

    def fingerprint(self) -> Fingerprint:
        """Those of the parts, each entry with `part0.`, `part1.`, ... before its name, and how they are combined."""
        flat: Fingerprint = {"embedder": "combined", "parts": len(self.parts), "unit_norm": self.unit_norm}
        for number, (part, weight) in enumerate(zip(self.parts, self.weights, strict=True)):
            flat[f"part{number}.weight"] = weight
            flat |= {f"part{number}.{name}": value for name, value in part.fingerprint().items()}
        return flat

    def check(self, rows: Sequence[Row], first_row: int = 0) -> None:
        """Raise for rows that any part would refuse, without running a model."""
        for part in self.parts:
            part.check(rows, first_row)

    def embed(self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None) -> Tensor:
        """Features of `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time k more rows are done by the last part. Whoever passes it also calls
                `report_truncation` at the end; without it a truncation is reported at once.

        Returns:
            `Tensor`: shape (len(rows), dimension), float32, on the CPU, part by part.

        Raises:
            `ValueError`: A row that one of the parts cannot read.
        """
        features = self.embed_prepared(self.prepare(rows, first_row), on_rows=on_rows).features
        if on_rows is None:
            self.report_truncation()
        return features

    def prepare(self, rows: Sequence[Row], first_row: int = 0) -> list[Any]:
        """Returns what the `prepare` of each part returns."""
        return [part.prepare(rows, first_row) for part in self.parts]

    def embed_prepared(self, prepared_rows: list[Any], *, on_rows: Callable[[int], None] | None = None) -> Embedded:
        """As `embed`, from what `prepare` returned.

        Columns: `tokens` of the first part that has it; of each part `part0.norm` and so on, before scaling, and
        whatever else it gives under such a name.
        """
        features: list[Tensor] = []
        columns: dict[str, Tensor] = {}
        last = len(self.parts) - 1
        for number, (part, weight) in enumerate(zip(self.parts, self.weights, strict=True)):
            # Rows are done when all parts are: only the last moves the progress bar.
            result = part.embed_prepared(prepared_rows[number], on_rows=on_rows if number == last else _nobody)
            embedded = result if isinstance(result, Embedded) else Embedded(result)
            norms = embedded.features.norm(dim=1)  # (B,)
            scaled = embedded.features * math.sqrt(weight)  # (B, d_i)
            features.append(scaled / norms.where(norms > 0, 1.0)[:, None] if self.unit_norm else scaled)
            named = {"norm": norms} | embedded.columns
            if "tokens" in named:
                columns.setdefault("tokens", named.pop("tokens"))
            columns |= {f"part{number}.{name}": values for name, values in named.items()}
        return Embedded(torch.cat(features, 1), columns)

    def report_truncation(self) -> None:
        """Has each part warn about the rows it cut."""
        for part in self.parts:
            part.report_truncation()


def _nobody(_count: int) -> None:
    """Keeps a part from reporting truncations by itself, which it does where nobody follows."""
