"""The cells of the benchmark, and how each is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from itl_hf import select_rows
from itl_hf.selection.registry import resolve_acquisition
from recipes.benchmarks.fine_tuning.config import UNTUNED, Config, Method
from recipes.benchmarks.fine_tuning.rows import HELD_OUT, BenchmarkRows
from recipes.benchmarks.fine_tuning.tuner import Tuner
from recipes.benchmarks.fine_tuning.variants import SHARED_POOLS, Variant, variant

#: Acquisitions that do not use targets: one training is enough for all sets that share a pool.
UNTARGETED = frozenset({"random", "k_center", "k_means", "badge", "undirected"})
#: Acquisitions that use no features: their picks are the same for all kinds of features and are measured once.
FEATURELESS = frozenset({"random", "length_matched_random", "dsir", "bm25"})
DRAWS = frozenset({"random", "length_matched_random", "k_means", "badge", "dsir"})
WITHOUT_FEATURES = "-"

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


def jobs(config: Config) -> Iterator[Job]:
    """Yields all jobs, ordered by seed, so that one seed of everything is finished first."""
    sets = list(config.target_sets())
    whole = tuple(Cell(WITHOUT_FEATURES, name, targets, UNTUNED, 0, 0) for name in config.variants for targets in sets)
    yield Job(Method(UNTUNED, {}), whole)
    for seed in config.seeds:
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
        self._tasks = np.array(rows.everything["task"])

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

    def pick(self, method: Method, cell: Cell, pool: Variant) -> np.ndarray:
        """Returns the method's picks, (n,) rows of `everything`; none for the untuned model."""
        if method.name == UNTUNED:
            return np.zeros(0, dtype=np.int64)
        prompts = self.rows.bank.select(self.rows.target_rows(pool.shares, cell.seed))
        reads_texts = method.options["acquisition"] in FEATURELESS - {"random"}
        # Texts are read only for the methods that need them: reading takes as long as a selection.
        pool_rows = self.rows.everything.select(pool.numbers if reads_texts else [])
        texts = [(row["prompt"], row["completion"]) for row in pool_rows]
        target_texts = [(row["prompt"], "") for row in prompts]
        options = dict(method.options)
        name = options.pop("acquisition")
        acquisition = resolve_acquisition(
            name,
            noise_std=options.pop("noise_std", None),
            target_noise_std=options.pop("target_noise_std", None),
            seed=cell.seed if name in DRAWS else None,
        )
        rows, bank = self._arrays(cell.features)
        selection = select_rows(
            rows[pool.numbers],
            bank[self.rows.target_rows(pool.shares, cell.seed)],
            cell.picks,
            acquisition=acquisition,
            texts=(texts, target_texts) if reads_texts else None,
            **options,
        )
        picks: np.ndarray = pool.numbers[selection.indices]
        return picks

    def _arrays(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        # Acquisitions that use no features get the first kind, which does not change their picks.
        arrays = self.features[next(iter(self.features)) if name == WITHOUT_FEATURES else name]
        return arrays["rows"], arrays["bank"]

    def _losses(self, picks: np.ndarray, first: Cell, pools: Mapping[Cell, Variant]) -> dict[str, tuple[float, float]]:
        """Returns the mean held-out response loss and the share of exact answers of each task."""
        if self.tuner is None:
            return {}
        tasks = list(dict.fromkeys(task for pool in pools.values() for task in pool.shares))
        if not len(picks):
            return self._measure(self.tuner, tasks)
        pool = pools[first]
        with self.tuner.training_on([pool.row(self.rows, number) for number in picks], first.seed):
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
            task_picks = picks[self._tasks[picks] == task]
            loss, exact = losses.get(task, (None, None))
            records.append(
                vars(cell)
                | {"task": task, "task_targets": targets, "task_picks": len(task_picks)}
                | {"task_originals": len(set(self.rows.originals[task_picks].tolist())), "loss": loss, "exact": exact}
            )
        return records

    def _summary(self, cell: Cell, pool: Variant, picks: np.ndarray, by_task: Sequence[Record]) -> Record:
        """Returns means over tasks, and scores of the picks by the tasks of their rows.

        `loss` and `exact` weight all tasks equally, `weighted_loss` by their number of targets. `relevant`: share of
        picks of the targets' tasks. `covered`: number of target tasks with at least half of their fair share.
        `originals`: number of different originals. `score`: share of a fair set without repetition that the picks
        contain, the sum over tasks of min(originals, fair) / sum of fair. `spoilt`: number of picks that are garbage or
        have a wrong answer.
        """
        total = sum(pool.shares.values())
        available = {task: len(set(self.rows.originals[self._of_task(pool, task)].tolist())) for task in pool.shares}
        fair = {task: min(cell.picks * share / total, available[task]) for task, share in pool.shares.items()}
        useful_originals = {record["task"]: min(record["task_originals"], fair[record["task"]]) for record in by_task}
        spoilt = [number in pool.answers or self._tasks[number] == "garbage" for number in picks.tolist()]
        half = [record["task"] for record in by_task if record["task_originals"] >= fair[record["task"]] / 2 > 0]
        return (
            vars(cell)
            | {"loss": _mean(by_task, "loss"), "weighted_loss": _mean(by_task, "loss", pool.shares)}
            | {"exact": _mean(by_task, "exact")}
            | {"relevant": sum(record["task_picks"] for record in by_task) / max(1, len(picks))}
            | {"covered": len(half), "originals": len(set(self.rows.originals[picks].tolist()))}
            | {"score": sum(useful_originals.values()) / sum(fair.values()) if sum(fair.values()) else None}
            | {"spoilt": sum(spoilt)}
        )

    def _of_task(self, pool: Variant, task: str) -> np.ndarray:
        numbers: np.ndarray = pool.numbers[self._tasks[pool.numbers] == task]
        return numbers


def _mean(records: Sequence[Record], column: str, shares: Mapping[str, int] | None = None) -> float | None:
    if any(record[column] is None for record in records):
        return None
    weights = [1 if shares is None else shares[record["task"]] for record in records]
    return float(np.average([record[column] for record in records], weights=weights))
