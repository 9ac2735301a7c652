"""Runs the settings of ITL on the development sets and predicts their losses."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm.auto import tqdm

from recipes.benchmarks.fine_tuning.cells import Record
from recipes.benchmarks.fine_tuning.rows import DEVELOPMENT_SETS
from recipes.benchmarks.fine_tuning.variants import variant
from recipes.benchmarks.loss_predictors.inputs import Inputs
from recipes.benchmarks.loss_predictors.predictors import predictor_names, row_predictors, task_means
from recipes.benchmarks.loss_predictors.settings import Setting, paired_differences, picks, settings
from recipes.benchmarks.loss_predictors.spaces import Space, prepare

VARIANTS = ("as-is", "near-duplicates", "mixture", "handful")
NUM_PICKS = 96
PICKS_OF_TASKS = "minus the picks of the task"


@dataclass(frozen=True)
class Place:
    """A development set in a pool with a seed.

    Args:
        variant (`str`):
            Name of the pool.
        targets (`str`):
            Name of the target set.
        seed (`int`):
            Seed of the targets.
    """

    variant: str
    targets: str
    seed: int


def places(seeds: Sequence[int]) -> Iterator[Place]:
    """Yields all places, one seed after the other."""
    for seed in seeds:
        for name in VARIANTS:
            for targets in DEVELOPMENT_SETS:
                yield Place(name, targets, seed)


class DevelopmentPicks:
    """The picks of every setting on the development sets, one JSON file for each place.

    Args:
        inputs (`Inputs`):
            The data.
        features (`str`):
            Name of features of the whole pool, which ITL uses.
    """

    def __init__(self, inputs: Inputs, features: str) -> None:
        self.inputs, self.features = inputs, features
        self.directory = inputs.work / "development"
        self._prepared: dict[tuple[int, ...], np.ndarray] = {}

    def __call__(self, place: Place) -> dict[Setting, np.ndarray]:
        """Returns the picks of every setting, as row numbers of `everything`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / f"{self.features}.{place.variant}.{place.targets}.{place.seed}.json"
        stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        if stored.keys() != {str(setting) for setting in settings()}:
            stored = {str(setting): numbers.tolist() for setting, numbers in self._pick(place).items()}
            draft = path.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(stored), encoding="utf-8")
            os.replace(draft, path)
        return {setting: np.array(stored[str(setting)]) for setting in settings()}

    def _pick(self, place: Place) -> dict[Setting, np.ndarray]:
        arrays = self.inputs.pool_features(self.features)
        pool = variant(self.inputs.rows, place.variant, place.targets)
        raw = arrays["rows"][pool.numbers]
        if (len(raw),) not in self._prepared:
            self._prepared = {(len(raw),): prepare(raw)}  # as-is, mixture and handful have the same pool
        rows = self._prepared[(len(raw),)]
        targets = prepare(arrays["bank"][self.inputs.rows.target_rows(pool.shares, place.seed)], raw)
        return {setting: pool.numbers[picks(setting, rows, targets, NUM_PICKS)] for setting in settings()}


def predicted(
    inputs: Inputs, space: Space, place: Place, chosen: Mapping[Setting, np.ndarray]
) -> dict[Setting, np.ndarray]:
    """Returns the predictors of each setting's picks, (predictors,): means with the weights of the targets.

    NaN where a row has no features in the space.
    """
    shares = variant(inputs.rows, place.variant, place.targets).shares
    held_out = inputs.held_out(DEVELOPMENT_SETS)
    questions = np.concatenate([held_out[task] for task in shares])
    tasks = [task for task in shares for _ in held_out[task]]
    weights = np.array(list(shares.values())) / sum(shares.values())
    available, values = set(space.numbers.tolist()), {}
    for setting, numbers in chosen.items():
        every = np.concatenate([numbers, questions])
        if available.issuperset(every.tolist()):
            by_row = row_predictors(space.cosines(every), len(numbers))
            values[setting] = weights @ np.stack(list(task_means(by_row, tasks).values()))
        else:
            values[setting] = np.full(len(predictor_names()), np.nan)
    return values


def development_records(
    inputs: Inputs, features: str, spaces: Sequence[Space], quantities: Sequence[str], seeds: Sequence[int]
) -> list[Record]:
    """Returns each setting's predicted difference to the default, over development sets, by predictor.

    Args:
        inputs (`Inputs`):
            The data.
        features (`str`):
            Features that ITL uses.
        spaces (`Sequence[Space]`):
            Spaces of the predictors.
        quantities (`Sequence[str]`):
            Names of the predictors, as in `predictor_names`.
        seeds (`Sequence[int]`):
            Seeds of the targets.
    """
    pick, columns = DevelopmentPicks(inputs, features), [predictor_names().index(name) for name in quantities]
    values = _Values()
    for place in tqdm(list(places(seeds)), desc=f"settings, {features}", unit="place"):
        chosen = pick(place)
        for setting, numbers in chosen.items():
            values.add(place, PICKS_OF_TASKS, setting, -picks_of_tasks(inputs, place, numbers))
        for space in spaces:
            for setting, predictors in predicted(inputs, space, place, chosen).items():
                for name, column in zip(quantities, columns, strict=True):
                    values.add(place, f"{space.name}: {name}", setting, float(predictors[column]))
    return [{"features": features} | record for record in values.records()]


def picks_of_tasks(inputs: Inputs, place: Place, numbers: np.ndarray) -> float:
    """Returns the number of picks of each target task, mean with the weights of the targets."""
    shares = variant(inputs.rows, place.variant, place.targets).shares
    labels = inputs.rows.everything.select(numbers)["task"]
    counts = [sum(label == task for label in labels) for task in shares]
    return float(np.average(counts, weights=list(shares.values())))


class _Values:
    """Predictions by pool and predictor, then by setting and target set."""

    def __init__(self) -> None:
        self._values: dict[tuple[str, str], dict[str, dict[str, list[float]]]] = {}

    def add(self, place: Place, predictor: str, setting: Setting, value: float) -> None:
        of_pool = self._values.setdefault((place.variant, predictor), {})
        of_pool.setdefault(str(setting), {}).setdefault(place.targets, []).append(value)

    def records(self) -> list[Record]:
        """Returns each setting's mean difference to the default with its standard error over sets."""
        return [
            {"pool": pool, "predictor": predictor, "setting": setting, "difference": difference, "error": error}
            for (pool, predictor), of_pool in self._values.items()
            for setting, (difference, error) in paired_differences(of_pool, str(Setting())).items()
        ]
