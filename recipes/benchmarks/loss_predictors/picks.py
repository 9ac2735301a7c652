"""Computes the picks of trained cells again. Selection is deterministic, so no training is needed.

The committed results hold the yardsticks of every cell and not its picks. Picks whose yardsticks are not exactly the
committed ones are not the picks that were trained on; `Picked.differences` names them, and they are left out.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from recipes.benchmarks.fine_tuning.cells import Bench, Cell, Job, Record, jobs
from recipes.benchmarks.fine_tuning.config import Config

#: The yardsticks that are compared with the committed ones, which have five significant digits.
YARDSTICKS = ("relevant", "covered", "originals", "score", "spoilt")
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Picked:
    """A trained cell with its picks.

    Args:
        cell (`Cell`):
            The cell.
        picks (`np.ndarray`):
            (n,) rows of `BenchmarkRows.everything`, in the order picked.
        differences (`tuple[str, ...]`):
            Yardsticks that are not the committed ones; empty if the picks are those that were trained on.
    """

    cell: Cell
    picks: np.ndarray
    differences: tuple[str, ...]


def trained_jobs(configs: Iterable[Config], measured: Mapping[Cell, Record]) -> Iterator[tuple[Config, Job]]:
    """Yields the jobs of the configurations that have a trained cell with picks, each job once."""
    yielded = set()
    for config in configs:
        for job in jobs(config):
            trained = any(cell in measured for cell in job.cells)
            if trained and job.cells[0].picks and job.cells[0] not in yielded:
                yielded.add(job.cells[0])
                yield config, job


def differing_yardsticks(record: Record, committed: Record) -> tuple[str, ...]:
    """Returns the names of the yardsticks that differ from the committed ones by more than their rounding."""
    return tuple(
        name
        for name in YARDSTICKS
        if (record[name] is None) != (committed[name] is None)
        or (record[name] is not None and abs(record[name] - committed[name]) > TOLERANCE)
    )


class PickCache:
    """The picks of finished jobs, one JSON file for each job.

    Args:
        directory (`Path`):
            Folder of the files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def picks(self, job: Job, bench: Bench) -> np.ndarray:
        """Returns the picks of a job, (n,), which are computed if there is no file."""
        path = self.path(job)
        if not path.exists():
            first = job.cells[0]
            picks = bench.pick(job.method, first, bench.pools(job)[first])
            draft = path.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(picks.tolist()), encoding="utf-8")
            os.replace(draft, path)
        return np.array(json.loads(path.read_text(encoding="utf-8")), dtype=np.int64)

    def path(self, job: Job) -> Path:
        """Returns the path of a job's file."""
        first = job.cells[0]
        parts: list[Any] = [first.features, first.variant, first.targets, first.method, first.picks, first.seed]
        return self.directory / f"{'.'.join(map(str, parts))}.json"


def check(job: Job, picks: np.ndarray, bench: Bench, measured: Mapping[Cell, Record]) -> list[Picked]:
    """Returns the job's trained cells with their picks, compared with the committed yardsticks."""
    cells, _ = bench.score(bench.pools(job), picks, {})
    records = {Cell.of(record): record for record in cells}
    return [
        Picked(cell, picks, differing_yardsticks(record, measured[cell]))
        for cell, record in records.items()
        if cell in measured
    ]
