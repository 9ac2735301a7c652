"""Results as CSV files, written whole or not at all."""

from __future__ import annotations

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]], digits: int = 4) -> None:
    """Writes rows of equal columns, real numbers to so many digits."""
    beside = path.with_suffix(f".{os.getpid()}")
    with open(beside, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: _short(value, digits) for key, value in row.items()} for row in rows)
    os.replace(beside, path)


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of such a file."""
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _short(value: Any, digits: int) -> Any:
    return f"{value:.{digits}g}" if isinstance(value, float) else value
