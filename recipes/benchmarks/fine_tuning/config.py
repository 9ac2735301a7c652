"""The configuration of a run: a YAML file that is checked before anything is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset, load_dataset

from recipes.benchmarks.bigbench import bigbench_rows
from recipes.benchmarks.fine_tuning.picking import NAMES
from recipes.benchmarks.fine_tuning.rows import DEVELOPMENT_SETS, SEEDS, TEST_SETS, BenchmarkRows, Sizes
from recipes.benchmarks.fine_tuning.tuner import Training
from recipes.benchmarks.fine_tuning.variants import VARIANTS
from recipes.offline import smollm2

NAMED_SETS: Mapping[str, Mapping[str, Sequence[str]]] = {"development": DEVELOPMENT_SETS, "test": TEST_SETS}
UNTUNED = "untuned"
#: The name of the method that picks nothing and trains on the labelled targets.
TARGETS_ALONE = "targets-alone"


@dataclass(frozen=True)
class Method:
    """A selection method with its name in the results.

    Args:
        name (`str`):
            Name in the tables.
        options (`dict`):
            `acquisition`, its `noise_std` and `target_noise_std`, and further arguments of `itl_hf.select_rows`.
    """

    name: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, entry: str | Mapping[str, Any]) -> Method:
        """Reads the name of an acquisition, or a mapping with `name`, `acquisition` and further options."""
        options = {"name": entry} if isinstance(entry, str) else dict(entry)
        name = str(options.pop("name"))
        options.setdefault("acquisition", name)
        if name not in (UNTUNED, TARGETS_ALONE) and options["acquisition"] not in NAMES:
            raise ValueError(
                f"method {name!r}: unknown acquisition {options['acquisition']!r}; known: {', '.join(NAMES)}"
            )
        return cls(name, options)


@dataclass(frozen=True)
class Config:
    """A run of the benchmark.

    Args:
        methods (`list[Method]`):
            Methods to compare; `untuned` is added automatically.
        sets (`str` or `dict`):
            `"test"`, `"development"`, or names of sets with their tasks.
        features (`list[str]`):
            Names of features, as in `recipes.benchmarks.fine_tuning.features.embedder`.
        variants (`list[str]`):
            Names of pools, as in `Variant`.
        budgets (`list[int]`):
            Numbers of picks to train on.
        seeds (`list[int]`):
            Seeds. Each has its own target prompts, random picks, first weights and training order.
        held_out (`int`):
            Rows of each task that the loss is measured on.
        model_name_or_path (`str`, *optional*):
            Hub id or folder of the model. Defaults to SmolLM2-135M from its package.
        dataset (`dict`, *optional*):
            Another data set instead of BIG-bench: `path`, `split`, and the names of its columns for `prompt`,
            `completion` and `task`.
        training (`Training`):
            Options of the LoRA training.
        sizes (`Sizes`):
            Sizes of the pool.
        shortlist (`int`):
            If positive, targets have completions and methods pick among the union of so many rows that are nearest to
            each target by hidden states (`recipes.benchmarks.fine_tuning.labelled`).
        results (`str`):
            Path of the result files, without suffix.
    """

    methods: list[Method]
    sets: str | dict[str, list[str]] = "test"
    features: list[str] = field(default_factory=lambda: ["hidden-states"])
    variants: list[str] = field(default_factory=lambda: ["as-is", "near-duplicates", "mixture"])
    budgets: list[int] = field(default_factory=lambda: [96])
    seeds: list[int] = field(default_factory=lambda: [0, 1, 2])
    held_out: int = 16
    model_name_or_path: str | None = None
    dataset: dict[str, str] | None = None
    training: Training = field(default_factory=Training)
    sizes: Sizes = field(default_factory=Sizes)
    shortlist: int = 0
    results: str = "recipes/benchmarks/results/fine_tuning"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.variants) - set(VARIANTS))
        if unknown:
            raise ValueError(f"unknown variants {unknown}; known: {', '.join(VARIANTS)}")
        if any(not 0 <= seed < SEEDS for seed in self.seeds):
            raise ValueError(f"seeds must be from 0 to {SEEDS - 1}: each seed has different target prompts")

    @classmethod
    def read(cls, path: str | Path) -> Config:
        """Reads a YAML file.

        Raises:
            `ValueError`: If a key or a value is unknown.
        """
        values: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        unknown = sorted(set(values) - {each.name for each in fields(cls)})
        if unknown:
            raise ValueError(f"{path}: unknown keys {unknown}; known: {[each.name for each in fields(cls)]}")
        parsers: dict[str, Callable[[Any], Any]] = {
            "methods": lambda entries: [Method.parse(entry) for entry in entries],
            "training": lambda entry: Training(**entry),
            "sizes": lambda entry: Sizes(**entry),
        }
        return cls(**{key: parsers[key](value) if key in parsers else value for key, value in values.items()})

    def only(self, names: Sequence[str]) -> Config:
        """Returns the configuration with only these methods.

        Raises:
            `ValueError`: If the configuration does not have a method of this name.
        """
        unknown = sorted(set(names) - {method.name for method in self.methods})
        if unknown:
            raise ValueError(f"methods {unknown} are not in the config")
        return replace(self, methods=[method for method in self.methods if method.name in names])

    def model(self) -> str:
        """Returns the configured model, or the packaged one, which is converted on first use."""
        return self.model_name_or_path or str(smollm2())

    def rows(self) -> BenchmarkRows:
        """Returns the data. BIG-bench is read with the tasks of all sets, so that all sets share one pool."""
        if self.dataset is None:
            all_sets = NAMED_SETS["development"] | NAMED_SETS["test"]  # type: ignore[operator]
            return BenchmarkRows(bigbench_rows(self.sizes.rows_per_task), all_sets, self.sizes)
        if isinstance(self.sets, str):
            raise ValueError("with dataset, sets must list the tasks of each set")
        return BenchmarkRows(self._load_rows(self.dataset), self.sets, self.sizes)

    def _load_rows(self, source: Mapping[str, str]) -> Dataset:
        columns = {source.get(name, name): name for name in ("prompt", "completion", "task")}
        data = load_dataset(source["path"], split=source.get("split", "train"))
        missing = sorted(set(columns) - set(data.column_names))
        if missing:
            raise ValueError(f"dataset {source['path']!r} has no columns {missing}; it has {data.column_names}")
        return data.select_columns(list(columns)).rename_columns(columns)

    def target_sets(self) -> Mapping[str, Sequence[str]]:
        """Returns the target sets by name."""
        if not isinstance(self.sets, str):
            return self.sets
        if self.sets not in NAMED_SETS:
            raise ValueError(f"unknown sets {self.sets!r}; known: {', '.join(NAMED_SETS)}")
        return NAMED_SETS[self.sets]

    def key(self) -> str:
        """Returns a hash of everything that a cell's numbers depend on, apart from the cell itself."""
        training = asdict(self.training)
        if training["dtype"] == "float32":  # the results from before there was a choice keep their key
            del training["dtype"]
        settings = [training, asdict(self.sizes), self.held_out, self.model_name_or_path, self.dataset]
        settings += [self.shortlist] if self.shortlist else []
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
