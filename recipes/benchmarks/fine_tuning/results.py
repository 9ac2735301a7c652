"""Stores results: two CSV files for all runs, and a folder with a file for each finished job.

A job's records are one JSON file that is renamed when it is complete, so any number of processes can use one folder and
be interrupted at any time. `collect` adds the records to the CSV files, which are committed and from which later runs
resume.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from recipes.benchmarks.fine_tuning.cells import Cell, Job, Record
from recipes.tables import read_csv, write_csv

KINDS = ("cells", "tasks")
#: Columns that are text even if a value looks like a number: a hash such as 12e68321 would be read as infinity.
TEXT = frozenset({"features", "variant", "targets", "method", "task", "key"})


class Results:
    """The results so far.

    Args:
        path (`Path`):
            Path of the CSV files, without `_cells.csv` and `_tasks.csv`.
        work (`Path`):
            Folder of finished jobs.
        key (`str`):
            Hash of the settings. Results of other settings are refused.

    Raises:
        `ValueError`: If the files have results of other settings.
    """

    def __init__(self, path: Path, work: Path, key: str) -> None:
        self.path, self.key = path, key
        self.work = work / key
        self.work.mkdir(parents=True, exist_ok=True)
        self.records: dict[str, list[Record]] = {kind: _read(self._csv(kind), key) for kind in KINDS}
        self._measured_cells = {Cell.of(record) for record in self.records["cells"]}

    def __contains__(self, job: Job) -> bool:
        return self._file(job).exists() or all(cell in self._measured_cells for cell in job.cells)

    def save(self, job: Job, cells: Sequence[Record], tasks: Sequence[Record]) -> None:
        """Saves a job's records. An interrupted write leaves no file."""
        path = self._file(job)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"cells": cells, "tasks": tasks}), encoding="utf-8")
        os.replace(draft, path)

    def collect(self) -> dict[str, list[Record]]:
        """Writes all results to the CSV files, sorted, and returns their content."""
        saved_jobs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.work.glob("*.json"))]
        for kind in KINDS:
            there = [*self.records[kind], *(record for job in saved_jobs for record in job[kind])]
            # `Cell` gives numbers the same type whether they come from a CSV file or from this run.
            whole = [record | vars(Cell.of(record)) | {"key": self.key} for record in there]
            records_by_identity = {tuple(str(record[name]) for name in _identity(kind)): record for record in whole}
            if records_by_identity:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_csv(
                    self._csv(kind), [records_by_identity[place] for place in sorted(records_by_identity)], digits=5
                )
            # Read back, so that the page is the same after a run and from the committed files alone.
            self.records[kind] = _read(self._csv(kind), self.key)
        return self.records

    def _csv(self, kind: str) -> Path:
        return self.path.with_name(f"{self.path.name}_{kind}.csv")

    def _file(self, job: Job) -> Path:
        first = job.cells[0]
        parts = [first.features, first.variant, first.targets, first.method, str(first.picks), str(first.seed)]
        return self.work / f"{'.'.join(part.replace('/', '_') for part in parts)}.json"


def _identity(kind: str) -> list[str]:
    names = [each.name for each in fields(Cell)]
    return [*names, "task"] if kind == "tasks" else names


def _read(path: Path, key: str) -> list[Record]:
    if not path.exists():
        return []
    records: list[Record] = [
        {name: text if name in TEXT else _number(text) for name, text in row.items()} for row in read_csv(path)
    ]
    others = sorted({str(record["key"]) for record in records} - {key})
    if others:
        raise ValueError(f"{path} holds results of other settings ({others}, now {key}): give `results` another name")
    return records


def _number(text: str) -> float | None:
    return float(text) if text else None
