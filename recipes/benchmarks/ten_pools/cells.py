"""The cells of the benchmark, and how each is measured."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from recipes.benchmarks.fine_tuning.config import UNTUNED
from recipes.benchmarks.fine_tuning.picking import picked_rows
from recipes.benchmarks.fine_tuning.scores import RowLabels, fair_shares, yardsticks
from recipes.benchmarks.fine_tuning.tuner import Tuner
from recipes.benchmarks.ten_pools.config import WITHOUT_FEATURES, Config, Method
from recipes.benchmarks.ten_pools.features import Features
from recipes.benchmarks.ten_pools.pool import Pool, TargetSet, target_sets
from recipes.benchmarks.ten_pools.registry import load_pool

Record = dict[str, Any]
#: Seeds of two cells of a set and seed are equal for all methods and differ between sets.
_SETS = 10_000


@dataclass(frozen=True)
class Cell:
    """One measurement: a method's picks for one target set.

    Args:
        pool (`str`):
            Name of the pool.
        half (`str`):
            `"development"` or `"test"`.
        shares (`str`):
            `"equal"`, `"mixture"` or `"handful"`.
        features (`str`):
            Kind of features, `"-"` for methods that use none.
        picks (`int`):
            Number of picks.
        seed (`int`):
            Seed of drawing methods and of training.
        set (`int`):
            Number of the target set.
        method (`str`):
            Name of the method.
        options (`str`):
            The method's options as JSON.
    """

    pool: str
    half: str
    shares: str
    features: str
    picks: int
    seed: int
    set: int
    method: str
    options: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Cell:
        """Returns the cell that a record of the results belongs to."""
        values: dict[str, Any] = {each.name: record[each.name] for each in fields(cls)}
        return cls(**values | {name: int(values[name]) for name in ("picks", "seed", "set")})


@dataclass(frozen=True)
class Job:
    """A cell and the method that picks for it."""

    cell: Cell
    method: Method


def jobs(config: Config) -> Iterator[Job]:
    """Yields all jobs, ordered by seed and set, so that the first sets of all pools are finished first."""
    places = list(product(config.pools, config.halves, config.shares))
    for seed, number, place in product(config.seeds, range(config.sets), places):
        if config.training is not None and seed == config.seeds[0]:
            yield Job(Cell(*place, WITHOUT_FEATURES, 0, seed, number, UNTUNED, "{}"), Method(UNTUNED, {}))
        for picks, method in product(config.budgets, config.methods):
            if number < (method.sets or config.sets):
                features = config.features_of(place[0], method)
                yield Job(Cell(*place, features, picks, seed, number, method.name, method.description), method)


class Bench:
    """Runs the jobs of the benchmark.

    Args:
        config (`Config`):
            Settings.
        directory (`Path`):
            Folder for features.
        bigbench_directory (`Path`):
            Folder of the features of BIG-bench rows, which the fine-tuning benchmark computes too.
        tuner (`Tuner`, *optional*):
            Trains and measures. Without it, cells have scores of the picks and no loss.
    """

    def __init__(self, config: Config, directory: Path, bigbench_directory: Path, tuner: Tuner | None = None) -> None:
        self.config, self.tuner = config, tuner
        self.directories = directory, bigbench_directory
        self.pool = lru_cache(maxsize=None)(load_pool)
        self.features = lru_cache(maxsize=None)(self._features)
        self.sets = lru_cache(maxsize=None)(self._sets)

    def _features(self, name: str, pool: str) -> tuple[np.ndarray, np.ndarray]:
        return Features(name, self.config.model(), *self.directories).of(self.pool(pool))

    def _sets(self, pool: str, half: str, shares: str) -> list[TargetSet]:
        return target_sets(self.pool(pool), half, self.config.sets, shares)

    def run(self, job: Job) -> Record:
        """Returns the record of a job's cell."""
        cell = job.cell
        pool = self.pool(cell.pool)
        targets = self.sets(cell.pool, cell.half, cell.shares)[cell.set]
        start_time = time.process_time()
        picks = self._pick(job, pool, targets)  # (n,) rows of the pool
        seconds = time.process_time() - start_time
        return (
            asdict(cell)
            | self._losses(cell, pool, targets, picks)
            | _yardsticks(cell, pool, targets, picks)
            | {"select_seconds": round(seconds, 2)}
        )

    def _pick(self, job: Job, pool: Pool, targets: TargetSet) -> np.ndarray:
        if job.method.name == UNTUNED:
            return np.zeros(0, dtype=np.int64)
        rows, bank = self.features(self._features_or_any(job), pool.name)
        available_rows = pool.available_rows(targets.tasks)
        picks = picked_rows(
            job.method.options,
            rows[available_rows],
            bank[targets.target_rows],
            job.cell.picks,
            seed=_seed(job.cell),
            texts=([pool.texts[row] for row in available_rows], [(prompt, "") for prompt in _prompts(pool, targets)]),
        )
        picked_numbers: np.ndarray = available_rows[picks]
        return picked_numbers

    def _features_or_any(self, job: Job) -> str:
        # Acquisitions that use no features get the pool's, which do not change their picks.
        if job.cell.features != WITHOUT_FEATURES:
            return job.cell.features
        return self.config.features.get(job.cell.pool) or self.config.features["default"]

    def _losses(self, cell: Cell, pool: Pool, targets: TargetSet, picks: np.ndarray) -> Record:
        """Returns the mean held-out response loss and the share of exact answers after training on the picks."""
        if self.tuner is None:
            return dict.fromkeys(("loss", "weighted_loss", "exact", "task_losses"))
        if not len(picks):
            return self._measure(self.tuner, pool, targets)
        with self.tuner.training_on([pool.row(number) for number in picks.tolist()], _seed(cell)):
            return self._measure(self.tuner, pool, targets)

    def _measure(self, tuner: Tuner, pool: Pool, targets: TargetSet) -> Record:
        rows = [pool.held_out[int(number)] for numbers in targets.held_out.values() for number in numbers]
        losses, exact = (np.array(values, dtype=float) for values in tuner.measure(rows))
        ends = np.cumsum([len(numbers) for numbers in targets.held_out.values()])[:-1]
        task_losses = [float(part.mean()) for part in np.split(losses, ends)]
        return {
            "loss": float(np.mean(task_losses)),
            "weighted_loss": float(np.average(task_losses, weights=list(targets.shares.values()))),
            "exact": float(np.mean([part.mean() for part in np.split(exact, ends)])),
            "task_losses": "/".join(f"{loss:.4g}" for loss in task_losses),
        }


def _seed(cell: Cell) -> int:
    """Returns the seed of draws and training: the same for all methods, another for each set."""
    return _SETS * cell.seed + cell.set


def _prompts(pool: Pool, targets: TargetSet) -> list[str]:
    prompts: list[str] = pool.bank.rows.select(targets.target_rows)["prompt"]
    return list(prompts)


def _yardsticks(cell: Cell, pool: Pool, targets: TargetSet, picks: np.ndarray) -> Record:
    """Returns the scores of the picks. Where the pool's tasks say nothing about relevance, only `originals`."""
    labels = RowLabels(pool.tasks, pool.row_originals)
    fair = fair_shares(labels, pool.available_rows(targets.tasks), targets.shares, cell.picks)
    scores = yardsticks(labels, picks, fair)
    if not pool.labelled or cell.method == UNTUNED:
        scores |= dict.fromkeys(("relevant", "covered", "score"))
    task_picks = "/".join(str(len(labels.of_task(picks, task))) for task in targets.tasks)
    return scores | {"task_picks": task_picks if pool.labelled else None, "spoilt": int(pool.spoilt[picks].sum())}
