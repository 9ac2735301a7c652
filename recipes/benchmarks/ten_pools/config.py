"""The configuration of a run: a YAML file that is checked before anything is computed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from recipes.benchmarks.fine_tuning.config import UNTUNED
from recipes.benchmarks.fine_tuning.config import Method as FineTuningMethod
from recipes.benchmarks.fine_tuning.picking import FEATURELESS
from recipes.benchmarks.fine_tuning.tuner import Training
from recipes.benchmarks.ten_pools.pool import HALVES, SHARES
from recipes.benchmarks.ten_pools.registry import POOLS
from recipes.offline import smollm2

WITHOUT_FEATURES = "-"
#: The method that all others are compared with.
REFERENCE = "itl"


@dataclass(frozen=True)
class Method:
    """A selection method with its name in the results.

    Args:
        name (`str`):
            Name in the tables.
        options (`dict`):
            `acquisition`, its `noise_std` and `target_noise_std`, and further arguments of `itl_hf.select_rows`. A text
            such as `"1.5n"` stands for that many times the number of picks.
        features (`str`, *optional*):
            Features that only this method uses. By default those of the configuration.
        sets (`int`, *optional*):
            Number of target sets for a method that is far behind and needs no more. By default those of the
            configuration.
    """

    name: str
    options: dict[str, Any]
    features: str | None = None
    sets: int | None = None

    @classmethod
    def parse(cls, entry: str | Mapping[str, Any]) -> Method:
        """Reads the name of an acquisition, or a mapping with `name`, `acquisition` and further options."""
        rest = {} if isinstance(entry, str) else dict(entry)
        own = {key: rest.pop(key, None) for key in ("features", "sets")}
        method = FineTuningMethod.parse(rest or entry)
        return cls(method.name, method.options, **own)

    @property
    def description(self) -> str:
        """All options as JSON, by which results of two methods of the same name are told apart."""
        return json.dumps(self.options, sort_keys=True)


@dataclass(frozen=True)
class Config:
    """A run of the benchmark: all combinations of its pools, halves, shares, budgets, seeds, sets and methods.

    Args:
        methods (`list[Method]`):
            Methods to compare. With training, `untuned` is measured too.
        pools (`list[str]`):
            Names of pools, as in `recipes.benchmarks.ten_pools.registry`.
        features (`dict[str, str]`):
            Kind of features of each pool; `default` is that of all others.
        halves (`list[str]`):
            `"development"` for choices, `"test"` for reports.
        shares (`list[str]`):
            Shares of the targets: `"equal"`, `"mixture"`, `"handful"`. A pool without enough labelled rows for
            one of them is measured with the others.
        budgets (`list[int]`):
            Numbers of picks.
        sets (`int`):
            Number of target sets.
        seeds (`list[int]`):
            Seeds of drawing methods and of training, in addition to the set's number.
        training (`Training`, *optional*):
            Options of the LoRA training. Without it, only the picks are scored.
        model_name_or_path (`str`, *optional*):
            Hub id or folder of the model. Defaults to SmolLM2-135M from its package.
        results (`str`):
            Path of the CSV file of results.
    """

    methods: list[Method]
    pools: list[str]
    results: str
    features: dict[str, str] = field(default_factory=lambda: {"default": "hidden-states"})
    halves: list[str] = field(default_factory=lambda: ["development"])
    shares: list[str] = field(default_factory=lambda: ["equal"])
    budgets: list[int] = field(default_factory=lambda: [96])
    sets: int = 40
    seeds: list[int] = field(default_factory=lambda: [0])
    training: Training | None = None
    model_name_or_path: str | None = None

    def __post_init__(self) -> None:
        choices: list[tuple[str, Sequence[str], Sequence[str]]] = [
            ("pools", self.pools, list(POOLS)),
            ("features of pools", list(self.features), ["default", *POOLS]),
            ("halves", self.halves, HALVES),
            ("shares", self.shares, list(SHARES)),
        ]
        for name, values, known in choices:
            unknown = sorted(set(values) - set(known))
            if unknown:
                raise ValueError(f"unknown {name} {unknown}; known: {', '.join(known)}")
        names = [method.name for method in self.methods]
        if len(set(names)) < len(names):
            raise ValueError(f"two methods have the same name: {sorted(names)}")
        if self.sets < 1 or min(self.budgets, default=0) < 1:
            raise ValueError("sets and budgets must be at least 1")

    @classmethod
    def read(cls, path: str | Path) -> Config:
        """Reads a YAML file.

        Raises:
            `ValueError`: If a key or a value is unknown.
        """
        values: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        known = [each.name for each in fields(cls)]
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"{path}: unknown keys {unknown}; known: {known}")
        parsers: dict[str, Callable[[Any], Any]] = {
            "methods": lambda entries: [Method.parse(entry) for entry in entries],
            "training": lambda entry: Training(**entry) if entry is not None else None,
            "features": lambda entry: {"default": entry} if isinstance(entry, str) else dict(entry),
        }
        return cls(**{key: parsers[key](value) if key in parsers else value for key, value in values.items()})

    def restricted(
        self, methods: Sequence[str] | None, pools: Sequence[str] | None, halves: Sequence[str] | None
    ) -> Config:
        """Returns the configuration with only these methods and pools, and with these halves. `None`: as they are.

        Raises:
            `ValueError`: If a name is unknown, or a method or pool is not in the configuration.
        """
        names = {method.name for method in self.methods}
        for kind, requested, known in (("methods", methods, names), ("pools", pools, set(self.pools))):
            unknown = sorted(set(requested or ()) - known)
            if unknown:
                raise ValueError(f"{kind} {unknown} are not in the config; it has {', '.join(sorted(known))}")
        return replace(
            self,
            methods=[method for method in self.methods if methods is None or method.name in methods],
            pools=[pool for pool in self.pools if pools is None or pool in pools],
            halves=list(self.halves if halves is None else halves),
        )

    def model(self) -> str:
        """Returns the configured model, or the packaged one, which is converted on first use."""
        return self.model_name_or_path or str(smollm2())

    def features_of(self, pool: str, method: Method) -> str:
        """Returns the kind of features that a method has on a pool, `"-"` if it uses none."""
        if method.name == UNTUNED or method.options["acquisition"] in FEATURELESS:
            return WITHOUT_FEATURES
        return method.features or self.features.get(pool) or self.features["default"]

    def key(self) -> str:
        """Returns a hash of everything that a cell's numbers depend on, apart from the cell itself."""
        settings = [None if self.training is None else asdict(self.training), self.model_name_or_path]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:8]
