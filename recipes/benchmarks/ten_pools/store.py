"""Stores results: a CSV file that is committed, and a folder with a file for each cell that is not in it yet.

A cell's record is one JSON file that is renamed when it is complete, so any number of processes can use one folder and
be interrupted at any time. `collect` adds the records to the CSV file, from which later runs resume.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from recipes.benchmarks.ten_pools.cells import Cell, Record
from recipes.tables import read_csv, write_csv

#: Columns that are text even if a value looks like a number.
TEXT = frozenset({"pool", "half", "shares", "features", "method", "options", "key", "task_picks", "task_losses"})


class Store:
    """The results so far.

    Args:
        path (`Path`):
            The CSV file.
        directory (`Path`):
            Folder of records that are not in the CSV file yet.
        key (`str`):
            Hash of the settings. Results of other settings are refused.

    Raises:
        `ValueError`: If the file has results of other settings.
    """

    def __init__(self, path: Path, directory: Path, key: str) -> None:
        self.path, self.key = path, key
        self.directory = directory / f"{path.stem}-{key}"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._records = {Cell.of(record): record for record in _read(path)}
        others = sorted({str(record["key"]) for record in self._records.values()} - {key})
        if others:
            raise ValueError(
                f"{path} has results of other settings ({others}, now {key}): set `results` to another file"
            )

    def __contains__(self, cell: Cell) -> bool:
        return cell in self._records or self._file(cell).exists()

    def save(self, cell: Cell, record: Record) -> None:
        """Saves a cell's record. An interrupted write leaves no file."""
        path = self._file(cell)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps(record | {"key": self.key}), encoding="utf-8")
        os.replace(draft, path)

    def discard(self, methods: Collection[str]) -> None:
        """Removes all results of these methods, so that they are measured again."""
        self.collect()
        kept_records = {cell: record for cell, record in self._records.items() if cell.method not in methods}
        for path in self.directory.glob("*.json"):
            path.unlink()
        self._records = kept_records
        self._write()

    def collect(self) -> list[Record]:
        """Writes all results to the CSV file, sorted, and returns its content."""
        for path in sorted(self.directory.glob("*.json")):
            record = json.loads(path.read_text(encoding="utf-8"))
            self._records[Cell.of(record)] = record
        self._write()
        # Read back, so that the page is the same after a run and from the committed file alone.
        return _read(self.path)

    def _write(self) -> None:
        rows = [self._records[cell] for cell in sorted(self._records, key=lambda cell: tuple(vars(cell).values()))]
        if rows:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_csv(self.path, rows, digits=5)
        else:
            self.path.unlink(missing_ok=True)

    def _file(self, cell: Cell) -> Path:
        digest = hashlib.sha256(json.dumps(vars(cell)).encode()).hexdigest()[:16]
        return self.directory / f"{cell.pool}.{cell.shares}.{cell.set}.{digest}.json"


def _read(path: Path) -> list[Record]:
    if not path.exists():
        return []
    return [{name: text if name in TEXT else _number(text) for name, text in row.items()} for row in read_csv(path)]


def _number(text: str) -> Any:
    return float(text) if text else None
