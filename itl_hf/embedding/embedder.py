"""What every source of features looks like to the rest of the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from itl_hf.text import Row

if TYPE_CHECKING:
    from torch import Tensor

Fingerprint = dict[str, str | int | float | bool | None]


class Embedder(Protocol):
    """Rows of text -> feature rows.

    A class of your own needs the members below and nothing else. Two more are used where they exist:
    `check(rows, first_row)` raises `ValueError` for rows that cannot be embedded, without running a model, and
    `report_truncation()` warns about rows that were cut since it was last called.

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

    def embed(self, rows: Sequence[Row], *, first_row: int = 0, on_rows: Callable[[int], None] | None = None) -> Tensor:
        """Features of `rows`, in their order.

        Args:
            rows (`Sequence[Row]`):
                Rows as `itl_hf.text.row_format` describes them.
            first_row (`int`, *optional*, defaults to 0):
                Number of `rows[0]` in its dataset, for error messages.
            on_rows (`Callable[[int], None]`, *optional*):
                Called with k each time k more rows are done; drives the progress bar.

        Returns:
            `Tensor`: shape (len(rows), dimension), float32, on the CPU.
        """
        ...
