"""Methods on labelled targets: gradients of a shortlist, and losses before and after a training on the targets.

A gradient costs about three forward passes, so only the rows that are near a target get one: the union of every
target's nearest rows by hidden states. Features are kept by the text of the row, so that rows which the shortlists of
several sets share are computed once.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from tqdm.auto import tqdm

from itl_hf.selection.baselines import LossDrop
from recipes.benchmarks.fine_tuning.cells import Bench, Candidates, Cell, Job
from recipes.benchmarks.fine_tuning.config import TARGETS_ALONE, UNTUNED, Config, Method
from recipes.benchmarks.fine_tuning.features import embedder
from recipes.benchmarks.fine_tuning.rows import BenchmarkRows
from recipes.benchmarks.fine_tuning.tuner import Row, Tuner
from recipes.benchmarks.fine_tuning.variants import Variant, variant

if TYPE_CHECKING:
    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.selection.protocol import Acquisition

HIDDEN_STATES = "hidden-states"
#: Kinds of features that are computed for shortlists only.
GRADIENT_KINDS = frozenset({"gradients-labelled"})
ROWS_AT_ONCE = 128


class RowCache:
    """Features of rows by their text, in a folder that any number of processes read and add to.

    Args:
        embedder (`Embedder`):
            Computes the features.
        directory (`Path`):
            The folder; features of other embedders are kept apart.
    """

    def __init__(self, embedder: Embedder, directory: Path) -> None:
        self.embedder = embedder
        text = json.dumps(embedder.fingerprint(), sort_keys=True, default=str)
        self.directory = directory / hashlib.sha256(text.encode()).hexdigest()[:12]
        self.directory.mkdir(parents=True, exist_ok=True)
        self._files: set[Path] = set()
        self._known: dict[str, np.ndarray] = {}

    def features(self, rows: Sequence[Row]) -> np.ndarray:
        """Returns the features of the rows, (B, d) float16, after computing those that no file holds."""
        keys = [_key(row) for row in rows]
        self._read_new_files()
        missing = {key: row for key, row in zip(keys, rows, strict=True) if key not in self._known}
        starts = range(0, len(missing), ROWS_AT_ONCE)
        for start in tqdm(starts, desc="gradients", unit=f"{ROWS_AT_ONCE} rows", disable=not missing, leave=False):
            self._compute(dict(list(missing.items())[start : start + ROWS_AT_ONCE]))
        return np.stack([self._known[key] for key in keys])

    def _compute(self, rows: Mapping[str, Row]) -> None:
        embedded = self.embedder.embed(list(rows.values()))
        features = (embedded if isinstance(embedded, torch.Tensor) else embedded.features).half().numpy()
        keys = np.array(list(rows), dtype="S32")
        path = self.directory / f"{hashlib.sha256(keys.tobytes()).hexdigest()[:16]}.npz"
        draft = path.with_suffix(f".{os.getpid()}")
        with open(draft, "wb") as file:
            np.savez(file, keys=keys, features=features)
        os.replace(draft, path)
        self._read_new_files()

    def _read_new_files(self) -> None:
        for path in sorted(set(self.directory.glob("*.npz")) - self._files):
            with np.load(path, allow_pickle=False) as arrays:
                keys, features = arrays["keys"].tolist(), arrays["features"]
            self._known.update((key.decode(), row) for key, row in zip(keys, features, strict=True))
            self._files.add(path)


def _key(row: Row) -> str:
    return hashlib.sha256(json.dumps([row["prompt"], row["completion"]]).encode()).hexdigest()[:32]


class LabelledBench(Bench):
    """Runs jobs whose targets have completions and whose methods pick from a shortlist.

    A method picks from the whole pool by hidden states if it has the option `whole_pool: true`, and from the shortlist
    by the cell's features otherwise; the option `features` names others. With `subtasks: true` its acquisition is told
    the task of each target.

    Args:
        config (`Config`):
            Settings; `shortlist` is positive.
        rows (`BenchmarkRows`):
            The data.
        features (`Mapping[str, Mapping[str, np.ndarray]]`):
            Features of all rows by name, hidden states among them.
        tuner (`Tuner`, *optional*):
            Trains and measures; the acquisition `loss_drop` needs it.
        work (`Path`):
            Folder for gradients.
    """

    def __init__(
        self,
        config: Config,
        rows: BenchmarkRows,
        features: Mapping[str, Mapping[str, np.ndarray]],
        tuner: Tuner | None = None,
        *,
        work: Path,
    ) -> None:
        super().__init__(config, rows, features, tuner)
        self.work = work
        self._caches: dict[str, RowCache] = {}

    @cached_property
    def _prepared(self) -> tuple[np.ndarray, np.ndarray]:
        """Hidden states of all rows and of the target prompts, standardized, each row of norm 1."""
        rows, bank = (self.features[HIDDEN_STATES][part].astype(np.float64) for part in ("rows", "bank"))
        mean, scale = rows.mean(0), rows.std(0)
        unit = [(part - mean) / np.where(scale > 0, scale, 1) for part in (rows, bank)]
        rows, bank = (part / np.linalg.norm(part, axis=1, keepdims=True) for part in unit)
        return rows, bank

    def shortlist(self, cell: Cell, pool: Variant) -> np.ndarray:
        """Returns the union of each target's nearest rows of the pool by hidden states, ascending."""
        rows, bank = self._prepared
        targets = bank[self.rows.target_rows(pool.shares, cell.seed)]  # (m, d)
        nearest = np.argsort(-(targets @ rows[pool.numbers].T), axis=1, kind="stable")[:, : self.config.shortlist]
        numbers: np.ndarray = pool.numbers[np.unique(nearest)]
        return numbers

    def candidates(self, method: Method, cell: Cell, pool: Variant) -> Candidates:
        """Returns the rows that the method picks from, with their features and those of the targets."""
        if method.options.get("whole_pool"):
            return super().candidates(method, dataclasses.replace(cell, features=HIDDEN_STATES), pool)
        kind = str(method.options.get("features", cell.features))
        numbers, targets = self.shortlist(cell, pool), self.rows.target_rows(pool.shares, cell.seed)
        if kind not in GRADIENT_KINDS:
            arrays = self.features[kind]
            return Candidates(numbers, arrays["rows"][numbers], arrays["bank"][targets])
        cache = self.cache(kind)
        return Candidates(
            numbers,
            cache.features([pool.row(self.rows, number) for number in numbers]),
            cache.features(self.rows.bank.select(targets).to_list()),
        )

    def cache(self, kind: str) -> RowCache:
        """Returns the features of this kind that have been computed so far."""
        if kind not in self._caches:
            self._caches[kind] = RowCache(embedder(kind, self.config.model()), self.work / kind)
        return self._caches[kind]

    def acquisition(self, method: Method, cell: Cell, pool: Variant, candidates: Candidates) -> Acquisition:
        """Returns the method's acquisition, with the targets' tasks or the losses that it needs."""
        if method.options["acquisition"] == LossDrop.name:
            return self._loss_drop(cell, pool, candidates.numbers)
        acquisition = super().acquisition(method, cell, pool, candidates)
        if method.options.get("subtasks"):
            tasks = [task for task, count in pool.shares.items() for _ in range(count)]
            acquisition = dataclasses.replace(acquisition, subtasks=tasks)  # type: ignore[type-var]
        return acquisition

    def _loss_drop(self, cell: Cell, pool: Variant, numbers: np.ndarray) -> LossDrop:
        """Measures the losses of the shortlist before and after a training on the targets."""
        if self.tuner is None:
            raise ValueError("loss_drop trains on the targets: leave out --no_training, or the method")
        rows = [pool.row(self.rows, number) for number in numbers]
        targets = self.rows.bank.select(self.rows.target_rows(pool.shares, cell.seed)).to_list()
        before, _ = self.tuner.measure(rows)
        with self.tuner.training_on(targets, cell.seed):
            after, _ = self.tuner.measure(rows)
        return LossDrop(before=before, after=after)

    def embed(self, jobs: Sequence[Job]) -> None:
        """Computes the gradients of the shortlists of these jobs."""
        jobs = [job for job in jobs if job.method.name not in (UNTUNED, TARGETS_ALONE)]
        cells = {(cell.variant, cell.targets, cell.seed): (job.method, cell) for job in jobs for cell in job.cells}
        for method, cell in tqdm(cells.values(), desc="shortlists", unit="shortlist"):
            for kind in GRADIENT_KINDS & set(self.config.features):
                self.candidates(
                    dataclasses.replace(method, options={}),
                    dataclasses.replace(cell, features=kind),
                    variant(self.rows, cell.variant, cell.targets),
                )
