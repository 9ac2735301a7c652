"""The cells of the benchmark, and how each is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from itl_hf import select_rows
from itl_hf.selection.protocol import Acquisition
from itl_hf.selection.registry import resolve_acquisition
from recipes.benchmarks.fine_tuning.config import TARGETS_ALONE, UNTUNED, Config, Method
from recipes.benchmarks.fine_tuning.picking import DRAWS, FEATURELESS, reads_texts, resolve_options
from recipes.benchmarks.fine_tuning.rows import HELD_OUT, BenchmarkRows
from recipes.benchmarks.fine_tuning.scores import RowLabels, fair_shares, yardsticks
from recipes.benchmarks.fine_tuning.tuner import Tuner
from recipes.benchmarks.fine_tuning.variants import SHARED_POOLS, Variant, variant

#: Acquisitions that do not use targets: one training is enough for all sets that share a pool.
UNTARGETED = frozenset({"random", "k_center", "k_means", "badge", "undirected"})
WITHOUT_FEATURES = "-"
#: Options of a method that the benchmark uses itself.
NOT_FOR_SELECT_ROWS = frozenset({"acquisition", "noise_std", "target_noise_std", "features", "whole_pool", "subtasks"})

Record = dict[str, Any]


@dataclass(frozen=True)
class Cell:
    """One measurement: training on a method's picks for one set of targets."""

    features: str
    variant: str
    targets: str
    method: str
    picks: int
    seed: int

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Cell:
        """Returns the cell that a record of the results belongs to."""
        return cls(**{each.name: type_of(record[each.name]) for each in fields(cls) for type_of in [_TYPES[each.name]]})


_TYPES = {"features": str, "variant": str, "targets": str, "method": str, "picks": int, "seed": int}


@dataclass(frozen=True)
class Job:
    """Cells that share picks and training.

    Args:
        method (`Method`):
            The method that picks.
        cells (`tuple[Cell, ...]`):
            Cells that differ only in targets and variant.
    """

    method: Method
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Candidates:
    """What a method picks from.

    Args:
        numbers (`np.ndarray`):
            (N,) row numbers of `BenchmarkRows.everything`.
        features (`np.ndarray`):
            (N, d) their features.
        target_features (`np.ndarray`):
            (m, d) features of the targets.
    """

    numbers: np.ndarray
    features: np.ndarray
    target_features: np.ndarray


def jobs(config: Config) -> Iterator[Job]:
    """Yields all jobs, ordered by seed and target set, so that all methods have the same sets at any time."""
    sets = list(config.target_sets())
    whole = tuple(Cell(WITHOUT_FEATURES, name, targets, UNTUNED, 0, 0) for name in config.variants for targets in sets)
    yield Job(Method(UNTUNED, {}), whole)
    for seed in config.seeds:
        yield from sorted(_jobs_of_seed(config, seed), key=lambda job: sets.index(job.cells[0].targets))


def _jobs_of_seed(config: Config, seed: int) -> Iterator[Job]:
    sets = list(config.target_sets())
    for picks in config.budgets:
        for method in config.methods:
            free = method.options["acquisition"] in FEATURELESS
            for features in [WITHOUT_FEATURES] if free else config.features:
                cells = [
                    Cell(features, name, targets, method.name, picks, seed)
                    for name in config.variants
                    for targets in sets
                ]
                yield from (Job(method, group) for group in _groups(method, cells))


def _groups(method: Method, cells: Sequence[Cell]) -> Iterator[tuple[Cell, ...]]:
    targeted = method.options["acquisition"] not in UNTARGETED
    shared: dict[object, list[Cell]] = {}
    for cell in cells:
        pool = SHARED_POOLS.get(cell.variant)
        shared.setdefault(cell if targeted or pool is None else pool, []).append(cell)
    yield from (tuple(group) for group in shared.values())


class Bench:
    """Runs the jobs of the benchmark.

    Args:
        config (`Config`):
            Settings.
        rows (`BenchmarkRows`):
            The data.
        features (`Mapping[str, Mapping[str, np.ndarray]]`):
            Features by name, each with `"rows"` and `"bank"`.
        tuner (`Tuner`, *optional*):
            Trains and measures. Without it, cells have scores of the picks and no loss.
    """

    def __init__(
        self,
        config: Config,
        rows: BenchmarkRows,
        features: Mapping[str, Mapping[str, np.ndarray]],
        tuner: Tuner | None = None,
    ) -> None:
        self.config, self.rows, self.features, self.tuner = config, rows, features, tuner
        self._held_out = rows.held_out.to_list()
        self._labels = RowLabels(np.array(rows.everything["task"]), rows.originals)

    def run(self, job: Job) -> tuple[list[Record], list[Record]]:
        """Returns records of the cells, and of each task in each cell."""
        pools = self.pools(job)
        first = job.cells[0]
        start_time = time.process_time()
        picks = self.pick(job.method, first, pools[first])  # (n,) rows of `everything`
        seconds = time.process_time() - start_time
        return self.score(pools, picks, self._losses(picks, first, pools), seconds)

    def pools(self, job: Job) -> dict[Cell, Variant]:
        """Returns the pool of each cell of a job."""
        return {cell: variant(self.rows, cell.variant, cell.targets) for cell in job.cells}

    def score(
        self,
        pools: Mapping[Cell, Variant],
        picks: np.ndarray,
        losses: Mapping[str, tuple[float, float]],
        seconds: float = 0.0,
    ) -> tuple[list[Record], list[Record]]:
        """Returns records of the cells, and of each task in each cell, for picks that are known.

        Args:
            pools (`Mapping[Cell, Variant]`):
                The cells that share the picks, with their pools.
            picks (`np.ndarray`):
                (n,) rows of `everything`.
            losses (`Mapping[str, tuple[float, float]]`):
                Held-out loss and share of exact answers by task; empty if nothing was trained.
            seconds (`float`, *optional*, defaults to 0.0):
                Duration of the selection.
        """
        cells, tasks = [], []
        for cell, pool in pools.items():
            by_task = self._by_task(cell, pool, picks, losses)
            tasks += by_task
            cells.append(self._summary(cell, pool, picks, by_task) | {"select_seconds": round(seconds, 2)})
        return cells, tasks

    def embed(self, jobs: Sequence[Job]) -> None:
        """Computes the features that these jobs need; here they were computed for all rows."""

    def pick(self, method: Method, cell: Cell, pool: Variant) -> np.ndarray:
        """Returns the method's picks, (n,) rows of `everything`; none for the untuned model."""
        if method.name in (UNTUNED, TARGETS_ALONE):
            return np.zeros(0, dtype=np.int64)
        candidates = self.candidates(method, cell, pool)
        prompts = self.rows.bank.select(self.rows.target_rows(pool.shares, cell.seed))
        needs_texts = reads_texts(method.options["acquisition"])
        # Texts are read only for the methods that need them: reading takes as long as a selection.
        pool_rows = self.rows.everything.select(candidates.numbers if needs_texts else [])
        texts = [(row["prompt"], row["completion"]) for row in pool_rows]
        target_texts = [(row["prompt"], "") for row in prompts]
        options = {name: value for name, value in method.options.items() if name not in NOT_FOR_SELECT_ROWS}
        selection = select_rows(
            candidates.features,
            candidates.target_features,
            cell.picks,
            acquisition=self.acquisition(method, cell, pool, candidates),
            texts=(texts, target_texts) if needs_texts else None,
            **resolve_options(options, cell.picks),
        )
        picks: np.ndarray = candidates.numbers[selection.indices]
        return picks

    def acquisition(self, method: Method, cell: Cell, pool: Variant, candidates: Candidates) -> Acquisition:
        """Returns the method's acquisition with its noises and its seed, if it draws."""
        options = {key: method.options[key] for key in ("noise_std", "target_noise_std") if key in method.options}
        name = method.options["acquisition"]
        return resolve_acquisition(name, **options, seed=cell.seed if name in DRAWS else None)

    def candidates(self, method: Method, cell: Cell, pool: Variant) -> Candidates:
        """Returns the rows of the pool with their features and those of the targets."""
        rows, bank = self._arrays(cell.features)
        return Candidates(pool.numbers, rows[pool.numbers], bank[self.rows.target_rows(pool.shares, cell.seed)])

    def _arrays(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        # Acquisitions that use no features get the first kind, which does not change their picks.
        arrays = self.features[next(iter(self.features)) if name == WITHOUT_FEATURES else name]
        return arrays["rows"], arrays["bank"]

    def _losses(self, picks: np.ndarray, first: Cell, pools: Mapping[Cell, Variant]) -> dict[str, tuple[float, float]]:
        """Returns the mean held-out response loss and the share of exact answers of each task."""
        if self.tuner is None:
            return {}
        tasks = list(dict.fromkeys(task for pool in pools.values() for task in pool.shares))
        pool = pools[first]
        rows = [pool.row(self.rows, number) for number in picks]
        if first.method == TARGETS_ALONE:
            rows = self.rows.bank.select(self.rows.target_rows(pool.shares, first.seed)).to_list()
        if not rows:
            return self._measure(self.tuner, tasks)
        with self.tuner.training_on(rows, first.seed):
            return self._measure(self.tuner, tasks)

    def _measure(self, tuner: Tuner, tasks: Sequence[str]) -> dict[str, tuple[float, float]]:
        count = min(self.config.held_out, HELD_OUT)
        places = {task: number * HELD_OUT for number, task in enumerate(self.rows.target_tasks)}
        rows = [self._held_out[places[task] + number] for task in tasks for number in range(count)]
        losses, exact = (np.reshape(values, (len(tasks), count)).mean(1) for values in tuner.measure(rows))
        return {task: (float(loss), float(right)) for task, loss, right in zip(tasks, losses, exact, strict=True)}

    def _by_task(
        self, cell: Cell, pool: Variant, picks: np.ndarray, losses: Mapping[str, tuple[float, float]]
    ) -> list[Record]:
        records = []
        for task, targets in pool.shares.items():
            task_picks = self._labels.of_task(picks, task)
            loss, exact = losses.get(task, (None, None))
            records.append(
                vars(cell)
                | {"task": task, "task_targets": targets, "task_picks": len(task_picks)}
                | {"task_originals": self._labels.num_originals(task_picks), "loss": loss, "exact": exact}
            )
        return records

    def _summary(self, cell: Cell, pool: Variant, picks: np.ndarray, by_task: Sequence[Record]) -> Record:
        """Returns means over tasks, and scores of the picks by the tasks of their rows, as in `yardsticks`.

        `loss` and `exact` weight all tasks equally, `weighted_loss` by their number of targets. `spoilt`: number of
        picks that are garbage or have a wrong answer.
        """
        fair = fair_shares(self._labels, pool.numbers, pool.shares, cell.picks)
        spoilt = [number in pool.answers or self._labels.tasks[number] == "garbage" for number in picks.tolist()]
        return (
            vars(cell)
            | {"loss": _mean(by_task, "loss"), "weighted_loss": _mean(by_task, "loss", pool.shares)}
            | {"exact": _mean(by_task, "exact")}
            | yardsticks(self._labels, picks, fair)
            | {"spoilt": sum(spoilt)}
        )


def _mean(records: Sequence[Record], column: str, shares: Mapping[str, int] | None = None) -> float | None:
    if any(record[column] is None for record in records):
        return None
    weights = [1 if shares is None else shares[record["task"]] for record in records]
    return float(np.average([record[column] for record in records], weights=weights))
