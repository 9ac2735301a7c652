"""What every source of features looks like to the rest of the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from itl_hf.text import Row

if TYPE_CHECKING:
    from torch import Tensor

Fingerprint = dict[str, str | int | float | bool | None]


def identifying(fingerprint: Fingerprint) -> Fingerprint:
    """The entries that tell one work from another: a model's name and revision do not, where its weights are hashed.

    They are kept for people to read; a model's folder may be moved or copied, and its features stay the same.

    Example:
        >>> identifying({"model": "a/folder", "weights": "3f2c", "layer": 3})
        {'weights': '3f2c', 'layer': 3}
    """

    def is_name(key: str) -> bool:
        prefix, dot, last = key.rpartition(".")  # parts of a combined embedder have a prefix
        return last in ("model", "revision") and f"{prefix}{dot}weights" in fingerprint

    return {key: value for key, value in fingerprint.items() if not is_name(key)}


@dataclass(frozen=True)
class Embedded:
    """Feature rows together with what else is known of each row.

    Args:
        features (`Tensor`):
            Shape (B, d), float32, on the CPU.
        columns (`dict[str, Tensor]`, *optional*):
            One number for each row, shape (B,), by name: `tokens` (int64), `norm` (float32, before any normalisation),
            `loss` (float32, NaN where a row has no labels).
    """

    features: Tensor
    columns: dict[str, Tensor] = field(default_factory=dict)


class Embedder(Protocol):
    """Rows of text -> feature rows.

    A class of your own needs the members below and nothing else. More is used where it exists:

    - `check(rows, first_row)` raises `ValueError` for rows that cannot be embedded, without running a model;
    - `prepare(rows, first_row)` and `embed_prepared(prepared, on_rows=)` split `embed` into what needs no model,
      which runs ahead in a thread of its own, and the rest;
    - `report_truncation()` warns about rows that were cut since it was last called;
    - `token_counts(rows)` says how many tokens the model reads of each row, and `batch_tokens` how many a batch may
      hold: estimates are made from them;
    - `tokenizer`, that of a language model, counts tokens for a `token_budget`;
    - `storage_dtype`, `"float32"` (the default) or `"float16"`, is what the features are stored in;
    - `for_targets(targets)` returns the embedder for pool and targets, given the targets, if it is another one;
    - `preparation` is what `Selector` does to the features unless told otherwise, see `Standardization`.

    Example:
        >>> class Length:
        ...     dimension = 1
        ...     def fingerprint(self): return {"embedder": "length"}
        ...     def embed(self, rows, *, first_row=0, on_rows=None):
        ...         return torch.tensor([[float(len(row["text"]))] for row in rows])
    """

    @property
    def dimension(self) -> int:
        """Numbers in a feature row."""
        ...

    def fingerprint(self) -> Fingerprint:
        """Everything that determines a row's features except the row itself, as JSON scalars."""
        ...

    def embed(
        self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None
    ) -> Tensor | Embedded:
        """Features of `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time k more rows are done; drives the progress bar.

        Returns:
            `Tensor`: shape (len(rows), dimension), float32, on the CPU; or these in an `Embedded`.
        """
        ...
