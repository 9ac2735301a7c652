"""Reads and writes results as CSV files."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], digits: int = 4) -> None:
    """Writes rows that have the same columns, with `digits` significant digits for real numbers.

    The file is replaced in one step, so that an interrupted write leaves the earlier file.
    """
    temporary_path = path.with_suffix(f".{os.getpid()}")
    with open(temporary_path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _round(value, digits) for key, value in row.items()} for row in rows)
    os.replace(temporary_path, path)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a CSV file, with all values as text."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _round(value: Any, digits: int) -> Any:
    return f"{value:.{digits}g}" if isinstance(value, float) else value
