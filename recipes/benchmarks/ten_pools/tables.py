"""Writes the page of the benchmark: differences to ITL on the same target sets, with standard errors over sets."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from recipes.benchmarks.fine_tuning.config import UNTUNED
from recipes.benchmarks.ten_pools.cells import Record
from recipes.benchmarks.ten_pools.config import REFERENCE, WITHOUT_FEATURES, Config
from recipes.benchmarks.ten_pools.pool import HALVES, SHARES
from recipes.benchmarks.ten_pools.registry import POOLS

HEAD = """# {title}

`python -m recipes.benchmarks.ten_pools --config {config}` wrote this page from the CSV file of the same name; with
`--publish` it only writes the page again.

A target set is four tasks of a half, drawn at random, with target prompts and held-out rows of each. All methods have
the same sets. A cell is the mean over sets; in brackets the difference to ITL on the same sets with its standard error
over sets, and on how many sets ITL is better / worse. Methods are sorted by their mean difference over pools. A method
that was run on fewer sets than ITL is compared on those.
"""
LOSS = "Held-out loss after training on the picks (nats; lower is better)"
SCORE = "Share of a fair set of the targets' tasks that the picks contain (yardstick; higher is better)"
DETAILS = ("relevant", "covered", "originals", "score", "spoilt", "exact", "weighted_loss", "select_seconds")
#: Columns of which a lower value is better.
LOWER = frozenset({"loss", "weighted_loss"})
BySet = dict[int, float]


@dataclass(frozen=True)
class Comparison:
    """A method against ITL on the sets that both have.

    Args:
        mean (`float`):
            Mean over all of the method's sets.
        difference (`float`, *optional*):
            Mean of the method minus ITL. `None` if they have no set in common.
        error (`float`, *optional*):
            Standard error of the difference over sets. `None` for a single set.
        better (`int`):
            Number of sets on which ITL is better.
        worse (`int`):
            Number of sets on which it is worse.
    """

    mean: float
    difference: float | None
    error: float | None
    better: int
    worse: int

    @classmethod
    def of(cls, values: BySet, reference: BySet, lower_is_better: bool) -> Comparison:
        """Compares values by set."""
        gaps = [values[number] - reference[number] for number in sorted(values.keys() & reference.keys())]
        sign = 1 if lower_is_better else -1
        return cls(
            statistics.fmean(values.values()),
            statistics.fmean(gaps) if gaps else None,
            statistics.stdev(gaps) / len(gaps) ** 0.5 if len(gaps) > 1 else None,
            sum(sign * gap > 0 for gap in gaps),
            sum(sign * gap < 0 for gap in gaps),
        )

    def __str__(self) -> str:
        if self.difference is None:
            return f"{self.mean:.3f}"
        error = "" if self.error is None else f" ± {self.error:.3f}"
        return f"{self.mean:.3f} ({self.difference:+.3f}{error}; {self.better}/{self.worse})"


def page(records: Sequence[Record], config: Config, config_path: str) -> str:
    """Returns Markdown with all tables for which there are records.

    Args:
        records (`Sequence[Record]`):
            Records of cells.
        config (`Config`):
            The configuration. A method that was run with other features than the configuration's has them in its name.
        config_path (`str`):
            Path of the configuration, for the reader.
    """
    parts = [HEAD.format(title="Many pools", config=config_path)]
    budgets = sorted({int(record["picks"]) for record in records if record["method"] != UNTUNED})
    for half, shares, picks in product(HALVES, SHARES, budgets):
        section = [
            record
            for record in records
            if (record["half"], record["shares"]) == (half, shares) and record["picks"] in (picks, 0)
        ]
        if any(record["picks"] for record in section):
            parts += _section(f"{half} tasks, {shares} shares, {picks} picks", section, config)
    return "\n".join(parts) + "\n"


def _section(title: str, records: Sequence[Record], config: Config) -> list[str]:
    parts = [f"\n## {title[0].upper()}{title[1:]}\n"]
    for heading, column in ((LOSS, "loss"), (SCORE, "score")):
        values = by_pool(records, column, config)
        if values:
            parts += [f"{heading}:\n", comparison_table(values, column in LOWER), ""]
    return [*parts, "Means over sets:\n", _details(records, config)]


def label(record: Record, config: Config) -> str:
    """Returns the method's name, with its features if they are not those that the configuration has for the pool."""
    features = record["features"]
    usual = config.features.get(record["pool"]) or config.features["default"]
    return str(record["method"] if features in (WITHOUT_FEATURES, usual) else f"{record['method']} ({features})")


def by_pool(records: Sequence[Record], column: str, config: Config) -> dict[str, dict[str, BySet]]:
    """Returns values by pool, method and set, averaged over seeds."""
    values: dict[str, dict[str, dict[int, list[float]]]] = {}
    for record in records:
        if record[column] is not None:
            methods = values.setdefault(record["pool"], {})
            methods.setdefault(label(record, config), defaultdict(list))[int(record["set"])].append(record[column])
    return {
        pool: {
            method: {number: statistics.fmean(each) for number, each in sets.items()}
            for method, sets in values[pool].items()
        }
        for pool in POOLS
        if pool in values
    }


def comparison_table(values: Mapping[str, Mapping[str, BySet]], lower_is_better: bool) -> str:
    """Returns a table with a row for each method and a column for each pool."""
    comparisons = {
        pool: {
            method: Comparison.of(sets, {} if method == REFERENCE else methods.get(REFERENCE, {}), lower_is_better)
            for method, sets in methods.items()
        }
        for pool, methods in values.items()
    }
    names = sorted(
        {method for methods in comparisons.values() for method in methods},
        key=lambda method: _order(method, [methods[method] for methods in comparisons.values() if method in methods]),
        reverse=not lower_is_better,
    )
    head = [f"{pool} ({len(methods.get(REFERENCE, ()))} sets)" for pool, methods in values.items()]
    rows = [f"| method | {' | '.join(head)} |", "|---" * (len(values) + 1) + "|"]
    for method in names:
        cells = [str(methods[method]) if method in methods else "" for methods in comparisons.values()]
        rows.append(f"| {_bold(method)} | {' | '.join(cells)} |")
    return "\n".join(rows)


def _order(method: str, comparisons: Sequence[Comparison]) -> tuple[float, str]:
    differences = [each.difference for each in comparisons if each.difference is not None]
    return (statistics.fmean(differences) if differences else 0.0), method


def _details(records: Sequence[Record], config: Config) -> str:
    columns = [name for name in DETAILS if any(record[name] is not None for record in records)]
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        if record["method"] != UNTUNED:
            groups[record["pool"], label(record, config)].append(record)
    rows = [f"| pool | method | sets | {' | '.join(columns)} |", "|---" * (len(columns) + 3) + "|"]
    for pool in POOLS:
        for (owner, method), group in sorted(groups.items()):
            if owner == pool:
                means = [_mean([record[name] for record in group if record[name] is not None]) for name in columns]
                sets = len({record["set"] for record in group})
                rows.append(f"| {pool} | {_bold(method)} | {sets} | {' | '.join(means)} |")
    return "\n".join(rows)


def _mean(numbers: Sequence[float]) -> str:
    return f"{statistics.fmean(numbers):.3f}" if numbers else ""


def _bold(method: str) -> str:
    return f"**{method}**" if method == REFERENCE else method
