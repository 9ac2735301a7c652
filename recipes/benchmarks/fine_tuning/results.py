"""Results as two tidy CSV files that grow from run to run, and a folder of finished jobs between times.

A job's records are one JSON file, written whole: any number of processes can work on one folder and be killed at any
time. `collect` joins them to the CSV files, which are what is committed and what a later run resumes from.
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
#: Text even where it looks like a number: a hash such as 12e68321 would be read as infinity.
TEXT = frozenset({"features", "variant", "targets", "method", "task", "key"})


class Results:
    """What is measured already.

    Args:
        path (`Path`):
            The CSV files, without `_cells.csv` and `_tasks.csv`.
        work (`Path`):
            Folder of finished jobs.
        key (`str`):
            Hash of the settings; results of others are refused.

    Raises:
        `ValueError`: The files hold results of other settings.
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
        """Keeps a job's records, whole or not at all."""
        path = self._file(job)
        draft = path.with_suffix(f".{os.getpid()}")
        draft.write_text(json.dumps({"cells": cells, "tasks": tasks}), encoding="utf-8")
        os.replace(draft, path)

    def collect(self) -> dict[str, list[Record]]:
        """Writes the CSV files with all that is there, in order, and returns what they say."""
        saved_jobs = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(self.work.glob("*.json"))]
        for kind in KINDS:
            there = [*self.records[kind], *(record for job in saved_jobs for record in job[kind])]
            # Through `Cell`, so that a number has the same type whether it comes from a CSV file or from this run.
            whole = [record | vars(Cell.of(record)) | {"key": self.key} for record in there]
            records_by_identity = {tuple(str(record[name]) for name in _identity(kind)): record for record in whole}
            if records_by_identity:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                write_csv(
                    self._csv(kind), [records_by_identity[place] for place in sorted(records_by_identity)], digits=5
                )
            # Read back: what is published says the same whether a run wrote it or the committed files are all there is.
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
