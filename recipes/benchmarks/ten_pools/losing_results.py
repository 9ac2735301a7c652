"""Results of the diagnosis: three CSV files that are committed, and a folder of measurements that are not in them yet.

A measurement is one JSON file with rows of the three tables; it is renamed when it is complete, so that an interrupted
run continues where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from recipes.tables import read_csv, write_csv

Row = dict[str, Any]
#: What tells two rows of a table apart.
KEYS = {
    "cells": ("pool", "shares", "set", "change"),
    "targets": ("pool", "shares", "set", "target"),
    "tasks": ("pool", "shares", "set", "task"),
}
_TEXT = frozenset({"pool", "shares", "change", "options", "task"})
_WHOLE = frozenset({"set", "target"})


class Results:
    """The results so far.

    Args:
        path (`Path`):
            CSV file of the cells. Those of targets and tasks have `_targets` and `_tasks` behind its name.
        directory (`Path`):
            Folder of measurements that are not in the CSV files yet.
    """

    def __init__(self, path: Path, directory: Path) -> None:
        self.path, self.directory = path, directory
        directory.mkdir(parents=True, exist_ok=True)
        self.tables = self._read()
        for file in sorted(directory.glob("*.json")):
            self._add(json.loads(file.read_text(encoding="utf-8")))

    def cell(self, pool: str, shares: str, number: int, change: str, options: str) -> Row | None:
        """Returns the cell of a change, or `None` if it was not measured with these options."""
        row = self.tables["cells"].get((pool, shares, number, change))
        return row if row is not None and row["options"] == options else None

    def save(self, measurement: Mapping[str, Sequence[Row]]) -> None:
        """Saves a measurement. An interrupted write leaves no file."""
        names = [[row[key] for key in KEYS["cells"]] for row in measurement["cells"]]
        digest = hashlib.sha256(json.dumps(names).encode()).hexdigest()[:16]
        draft = self.directory / f"{digest}.{os.getpid()}"
        draft.write_text(json.dumps(measurement), encoding="utf-8")
        os.replace(draft, self.directory / f"{digest}.json")
        self._add(measurement)

    def write(self) -> dict[str, list[Row]]:
        """Writes the CSV files and returns their content."""
        for name, table in self.tables.items():
            if table:
                write_csv(self._file(name), [table[key] for key in sorted(table)], digits=4)
        # Read back, so that the page is the same after a run and from the committed files alone.
        return {name: list(table.values()) for name, table in self._read().items()}

    def _add(self, measurement: Mapping[str, Sequence[Row]]) -> None:
        for name, rows in measurement.items():
            self.tables[name] |= {tuple(row[key] for key in KEYS[name]): row for row in rows}

    def _file(self, name: str) -> Path:
        return self.path if name == "cells" else self.path.with_stem(f"{self.path.stem}_{name}")

    def _read(self) -> dict[str, dict[tuple[Any, ...], Row]]:
        tables: dict[str, dict[tuple[Any, ...], Row]] = {}
        for name, keys in KEYS.items():
            file = self._file(name)
            rows = [_parse(row) for row in read_csv(file)] if file.exists() else []
            tables[name] = {tuple(row[key] for key in keys): row for row in rows}
        return tables


def _parse(row: Mapping[str, str]) -> Row:
    return {name: _value(name, text) for name, text in row.items()}


def _value(name: str, text: str) -> Any:
    if name in _TEXT:
        return text
    if not text:
        return None
    return int(text) if name in _WHOLE else float(text)
