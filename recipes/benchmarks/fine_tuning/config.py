"""What to run: a YAML file, checked before anything is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml
from datasets import Dataset, load_dataset

from itl_hf.selection.registry import ACQUISITION_NAMES
from recipes.benchmarks.bigbench import bigbench_rows
from recipes.benchmarks.fine_tuning.rows import DEVELOPMENT_SETS, SEEDS, TEST_SETS, BenchmarkRows, Sizes
from recipes.benchmarks.fine_tuning.tuner import Training
from recipes.benchmarks.fine_tuning.variants import VARIANTS
from recipes.offline import smollm2

NAMED_SETS: Mapping[str, Mapping[str, Sequence[str]]] = {"development": DEVELOPMENT_SETS, "test": TEST_SETS}
UNTUNED = "untuned"


@dataclass(frozen=True)
class Method:
    """A way to pick, under the name it has in the results.

    Args:
        name (`str`):
            As in the tables.
        options (`dict`):
            For `itl_hf.select_rows`.
    """

    name: str
    options: dict[str, Any]

    @classmethod
    def parse(cls, entry: str | Mapping[str, Any]) -> Method:
        """A name of an acquisition, or a mapping with `name`, `acquisition` and further options."""
        given = {"name": entry} if isinstance(entry, str) else dict(entry)
        name = str(given.pop("name"))
        given.setdefault("acquisition", name)
        if name != UNTUNED and given["acquisition"] not in ACQUISITION_NAMES:
            raise ValueError(
                f"method {name!r}: unknown acquisition {given['acquisition']!r}; known: {', '.join(ACQUISITION_NAMES)}"
            )
        return cls(name, given)


@dataclass(frozen=True)
class Config:
    """A run of the benchmark.

    Args:
        methods (`list[Method]`):
            What to compare; `untuned` is added by itself.
        sets (`str` or `dict`):
            `"test"`, `"development"`, or names of sets with their tasks.
        features (`list[str]`):
            See `recipes.benchmarks.fine_tuning.features.embedder`.
        variants (`list[str]`):
            See `Variant`.
        budgets (`list[int]`):
            Picks to train on.
        seeds (`list[int]`):
            Each has its own target prompts, random picks, first weights and order.
        held_out (`int`):
            Rows of each task that the loss is measured on.
        model_name_or_path (`str`, *optional*):
            SmolLM2-135M from its package when left out.
        dataset (`dict`, *optional*):
            Any data set instead of BIG-bench: `path`, `split`, and the names of its columns as `prompt`, `completion`
            and `task`.
        training (`Training`):
            The LoRA budget.
        sizes (`Sizes`):
            Of the pool.
        results (`str`):
            Where the results go, without suffix.
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
    results: str = "recipes/benchmarks/results/fine_tuning"

    def __post_init__(self) -> None:
        unknown = sorted(set(self.variants) - set(VARIANTS))
        if unknown:
            raise ValueError(f"unknown variants {unknown}; known: {', '.join(VARIANTS)}")
        if any(not 0 <= seed < SEEDS for seed in self.seeds):
            raise ValueError(f"seeds must be from 0 to {SEEDS - 1}: each needs target prompts of its own")

    @classmethod
    def read(cls, path: str | Path) -> Config:
        """From a YAML file.

        Raises:
            `ValueError`: Keys or values that are not known.
        """
        given: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        unknown = sorted(set(given) - {each.name for each in fields(cls)})
        if unknown:
            raise ValueError(f"{path}: unknown keys {unknown}; known: {[each.name for each in fields(cls)]}")
        parsers: dict[str, Callable[[Any], Any]] = {
            "methods": lambda entries: [Method.parse(entry) for entry in entries],
            "training": lambda entry: Training(**entry),
            "sizes": lambda entry: Sizes(**entry),
        }
        return cls(**{key: parsers[key](value) if key in parsers else value for key, value in given.items()})

    def only(self, names: Sequence[str]) -> Config:
        """The same with these methods.

        Raises:
            `ValueError`: A name that the config does not have.
        """
        unknown = sorted(set(names) - {method.name for method in self.methods})
        if unknown:
            raise ValueError(f"methods {unknown} are not in the config")
        return replace(self, methods=[method for method in self.methods if method.name in names])

    def model(self) -> str:
        """The model asked for, or the packaged one, converted on first use."""
        return self.model_name_or_path or str(smollm2())

    def rows(self) -> BenchmarkRows:
        """The data. BIG-bench is made with the tasks of all sets, so that both kinds of sets share one pool."""
        if self.dataset is None:
            named = NAMED_SETS["development"] | NAMED_SETS["test"]  # type: ignore[operator]
            return BenchmarkRows(bigbench_rows(self.sizes.rows_per_task), named, self.sizes)
        if isinstance(self.sets, str):
            raise ValueError("with dataset, sets must list the tasks of each set")
        return BenchmarkRows(self._loaded(self.dataset), self.sets, self.sizes)

    def _loaded(self, source: Mapping[str, str]) -> Dataset:
        columns = {source.get(name, name): name for name in ("prompt", "completion", "task")}
        data = load_dataset(source["path"], split=source.get("split", "train"))
        missing = sorted(set(columns) - set(data.column_names))
        if missing:
            raise ValueError(f"dataset {source['path']!r} has no columns {missing}; it has {data.column_names}")
        return data.select_columns(list(columns)).rename_columns(columns)

    def target_sets(self) -> Mapping[str, Sequence[str]]:
        """Sets by name."""
        if not isinstance(self.sets, str):
            return self.sets
        if self.sets not in NAMED_SETS:
            raise ValueError(f"unknown sets {self.sets!r}; known: {', '.join(NAMED_SETS)}")
        return NAMED_SETS[self.sets]

    def key(self) -> str:
        """A hash of everything that a cell's numbers depend on besides its name."""
        said = [asdict(self.training), asdict(self.sizes), self.held_out, self.model_name_or_path, self.dataset]
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:8]
