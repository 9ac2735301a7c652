"""Collects the rows that cannot be read, so that one pass reports all of them by kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, Literal

OnBadRows = Literal["error", "skip"]
ON_BAD_ROWS = ("error", "skip")
#: Row numbers that are first_rows for each kind, and kinds that are first_rows.
LISTED_ROWS, LISTED_KINDS = 10, 10


class BadRows:
    """Rows that cannot be read, by the kind of their error.

    Example:
        >>> bad = BadRows()
        >>> for row in (3, 8):
        ...     bad.add(row, ValueError(f"row {row}: column 'text' is empty."))
        >>> print(bad.message(num_rows=100))
        2 of 100 rows cannot be read:
        - 2 rows (3, 8): column 'text' is empty.
    """

    def __init__(self) -> None:
        self._errors: dict[str, str] = {}
        self._rows: dict[str, list[int]] = {}
        self._numbers: set[int] = set()

    def __len__(self) -> int:
        return len(self._numbers)

    def __contains__(self, row: int) -> bool:
        return row in self._numbers

    @property
    def rows(self) -> list[int]:
        """Numbers of these rows, ascending."""
        return sorted(self._numbers)

    def add(self, row: int, error: Exception) -> None:
        """Takes a row into account; of several errors of a row only the first counts. It may begin with `row 3: `."""
        if row in self._numbers:
            return
        self._numbers.add(row)
        message = str(error)
        # Errors that differ only in numbers, such as a length, are of one kind.
        kind = re.sub(r"\d+", "#", message)
        self._errors.setdefault(kind, message)
        self._rows.setdefault(kind, []).append(row)

    def entries(self) -> list[tuple[str, list[int]]]:
        """Returns the error and the rows of each kind, JSON types, from which `join` makes the same object."""
        return [(self._errors[kind], rows) for kind, rows in self._rows.items()]

    @classmethod
    def join(cls, parts: Iterable[Sequence[tuple[str, list[int]]]]) -> BadRows:
        """Returns the rows of all parts, which are `entries` in the order of their rows."""
        all_rows = cls()
        for entries in parts:
            for message, rows in entries:
                for row in rows:
                    all_rows.add(row, ValueError(message))
        return all_rows

    def message(self, num_rows: int) -> str:
        """Returns one error for all rows, given the number of rows in all; a single row keeps its own error."""
        if len(self) == 1:
            error = next(iter(self._errors.values()))
            return error if error.startswith("row ") else f"row {self.rows[0]}: {error}"
        lines = [f"{len(self):,} of {num_rows:,} rows cannot be read:"]
        for kind, rows in self._by_frequency()[:LISTED_KINDS]:
            first_rows = ", ".join(map(str, rows[:LISTED_ROWS])) + (", ..." if len(rows) > LISTED_ROWS else "")
            error = re.sub(r"^row \d+:? ?", "", self._errors[kind])
            lines.append(f"- {len(rows):,} {'rows' if len(rows) > 1 else 'row'} ({first_rows}): {error}")
        num_more = len(self._errors) - LISTED_KINDS
        return "\n".join([*lines, *([f"- and {num_more} other kinds of errors"] if num_more > 0 else [])])

    def to_json(self) -> dict[str, Any]:
        """Returns what the record says of rows that were left out: their number, and the first ten of each kind."""
        kinds = [
            {"error": re.sub(r"^row \d+:? ?", "", self._errors[kind]), "count": len(rows), "rows": rows[:LISTED_ROWS]}
            for kind, rows in self._by_frequency()[:LISTED_KINDS]
        ]
        return {"count": len(self), "kinds": kinds}

    def _by_frequency(self) -> list[tuple[str, list[int]]]:
        return sorted(self._rows.items(), key=lambda item: (-len(item[1]), item[1][0]))


def check_on_bad_rows(on_bad_rows: str) -> OnBadRows:
    """Returns the value, or raises a `ValueError` that lists the accepted ones."""
    if on_bad_rows not in ON_BAD_ROWS:
        raise ValueError(f"on_bad_rows must be one of {ON_BAD_ROWS}, got {on_bad_rows!r}")
    return on_bad_rows  # type: ignore[return-value]  # checked
