"""Writes the page of the benchmark: losses, differences to ITL with their standard errors, and scores of the picks."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from recipes.benchmarks.fine_tuning.cells import WITHOUT_FEATURES, Record
from recipes.benchmarks.fine_tuning.config import UNTUNED
from recipes.benchmarks.fine_tuning.variants import VARIANTS

REFERENCE = "itl"
DEFAULT_FEATURES = "hidden-states"
Pair = tuple[str, float]  # set of targets, seed
HEAD = """# Fine-tuning on what each method picked

`python -m recipes.benchmarks.fine_tuning` wrote this page from the CSV files beside it; `--publish` writes it again.

SmolLM2-135M, LoRA on the same number of picks for every method, mean loss of held-out response tokens (nats; lower is
better), each of a set's four tasks counting the same. In brackets: the difference to ITL on the same sets and seeds,
averaged over seeds, with the standard error over sets (none for a single set). A row with fewer cells than others has
not been run on all of them yet: read its difference, not its mean.
"""


def page(records: Mapping[str, Sequence[Record]]) -> str:
    """Returns Markdown with all tables for which there are records."""
    parts = [HEAD]
    cells = records["cells"]
    for features in sorted({str(cell["features"]) for cell in cells} - {WITHOUT_FEATURES}):
        for picks in sorted({float(cell["picks"]) for cell in cells if cell["picks"]}):
            mine = [cell for cell in cells if _belongs(cell, features, picks)]
            if any(cell["features"] == features for cell in mine):
                parts.append(_section(features, picks, mine))
    for picks in sorted({float(cell["picks"]) for cell in cells if cell["picks"]}):
        parts += _across_features(picks, [cell for cell in cells if cell["picks"] == picks])
    return "\n".join(parts) + "\n"


def _belongs(cell: Record, features: str, picks: float) -> bool:
    """Returns whether a cell belongs to a table. Methods without features belong to all tables."""
    return cell["features"] in (features, WITHOUT_FEATURES) and (cell["picks"] == picks or cell["method"] == UNTUNED)


def _section(features: str, picks: float, cells: Sequence[Record]) -> str:
    lines = [f"\n## {features}, {picks:g} picks\n"]
    if any(cell["loss"] is not None for cell in cells):
        lines += [_losses("Held-out loss", "loss", cells)]
        lines += [_losses("Every target counting the same (mixture: 24/12/6/3)", "weighted_loss", cells, ["mixture"])]
        lines += [_losses("Share of exact answers", "exact", cells)]
        lines += [_by_set(cells)]
    lines += [_yardsticks(cells)]
    return "\n".join(line for line in lines if line)


def _across_features(picks: float, cells: Sequence[Record]) -> list[str]:
    """Returns a table that compares kinds of features for the same method, on the cells that both have."""
    kinds = sorted({str(cell["features"]) for cell in cells if cell["loss"] is not None} - {WITHOUT_FEATURES})
    if len(kinds) < 2:
        return []
    first = DEFAULT_FEATURES if DEFAULT_FEATURES in kinds else kinds[0]
    losses_by_kind = {kind: values([cell for cell in cells if cell["features"] == kind], "loss") for kind in kinds}
    base, others = losses_by_kind.pop(first), losses_by_kind
    variants = [name for name in variants_with_results(base) if any(name in other for other in others.values())]
    rows = [
        f"\n## Features, {picks:g} picks\n\nHeld-out loss; in brackets the difference to the same method on {first}:\n"
    ]
    rows += [f"| method | features | {' | '.join(variants)} |", "|---" * (len(variants) + 2) + "|"]
    for kind, other in others.items():
        for method in sorted({method for name in variants for method in other.get(name, {})}):
            table_cells = [
                _on_both(other.get(name, {}).get(method, {}), base[name].get(method, {})) for name in variants
            ]
            rows.append(f"| {_bold(method)} | {kind} | {' | '.join(table_cells)} |")
    return ["\n".join(rows)]


def _on_both(mine: Mapping[Pair, float], other: Mapping[Pair, float]) -> str:
    return _with_lead({pair: mine[pair] for pair in mine if pair in other}, other)


def values(cells: Sequence[Record], column: str) -> dict[str, dict[str, dict[Pair, float]]]:
    """Returns values by variant, method and (set, seed). Untuned has the same value for all seeds."""
    values_by_method: dict[str, dict[str, dict[Pair, float]]] = defaultdict(lambda: defaultdict(dict))
    for cell in cells:
        if cell[column] is not None:
            values_by_method[str(cell["variant"])][str(cell["method"])][str(cell["targets"]), float(cell["seed"])] = (
                cell[column]
            )
    for methods in values_by_method.values():
        once, pairs = methods.get(UNTUNED, {}), set(methods.get(REFERENCE, {}))
        if once:
            methods[UNTUNED] = {pair: once[pair[0], 0.0] for pair in pairs if (pair[0], 0.0) in once} or once
    return values_by_method


def variants_with_results(values_by_method: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Returns the variants that get a column, in fixed order: those with results of ITL, or all if it has none."""
    order = [name for name in VARIANTS if name in values_by_method]
    return [name for name in order if REFERENCE in values_by_method[name]] or order


def difference(mine: Mapping[Pair, float], other: Mapping[Pair, float]) -> tuple[float, float | None] | None:
    """Returns the mean of mine - other over common pairs, averaged over seeds, and its standard error over sets."""
    by_set: dict[str, list[float]] = defaultdict(list)
    for pair in sorted(set(mine) & set(other)):
        by_set[pair[0]].append(mine[pair] - other[pair])
    means = [statistics.fmean(each) for each in by_set.values()]
    if not means:
        return None
    error = statistics.stdev(means) / len(means) ** 0.5 if len(means) > 1 else None
    return statistics.fmean(means), error


def _losses(title: str, column: str, cells: Sequence[Record], only: Sequence[str] | None = None) -> str:
    values_by_method = values(cells, column)
    variants = [name for name in variants_with_results(values_by_method) if only is None or name in only]
    if not variants:
        return ""
    names = {method for name in variants for method in values_by_method[name]}
    order = sorted(names, key=lambda method: _mean_over(values_by_method, variants, method), reverse=column == "exact")
    rows = [f"\n{title}:\n", f"| method | {' | '.join(variants)} | cells |", "|---" * (len(variants) + 2) + "|"]
    for method in order:
        table_cells = [
            _table_cell(values_by_method[name].get(method), values_by_method[name].get(REFERENCE), method)
            for name in variants
        ]
        count = sum(len(values_by_method[name].get(method, ())) for name in variants)
        rows.append(f"| {_bold(method)} | {' | '.join(table_cells)} | {count if method != UNTUNED else ''} |")
    return "\n".join(rows)


def _mean_over(
    values_by_method: Mapping[str, Mapping[str, Mapping[Pair, float]]], variants: Sequence[str], method: str
) -> float:
    """Returns the mean difference to ITL, by which rows are sorted, so that missing cells do not matter."""
    differences = [
        difference(values_by_method[name].get(method, {}), values_by_method[name].get(REFERENCE, {}))
        for name in variants
    ]
    leads = [each[0] for each in differences if each is not None]
    return statistics.fmean(leads) if leads else float("inf")


def _table_cell(mine: Mapping[Pair, float] | None, reference: Mapping[Pair, float] | None, method: str) -> str:
    return _with_lead(mine or {}, {} if method == REFERENCE else reference or {})


def _with_lead(mine: Mapping[Pair, float], other: Mapping[Pair, float]) -> str:
    """Returns the mean, with the difference to `other` in brackets."""
    if not mine:
        return ""
    lead, mean = difference(mine, other), f"{statistics.fmean(mine.values()):.3f}"
    return mean if lead is None else f"{mean} ({lead[0]:+.3f}{'' if lead[1] is None else f' ± {lead[1]:.3f}'})"


def _bold(method: str) -> str:
    return f"**{method}**" if method == REFERENCE else method


def _by_set(cells: Sequence[Record]) -> str:
    """Returns tables of the loss by set and variant, averaged over seeds."""
    losses = values(cells, "loss")
    parts = []
    for name in variants_with_results(losses):
        methods = losses[name]
        sets = list(dict.fromkeys(pair[0] for pairs in methods.values() for pair in pairs))
        parts += [f"\nBy set, {name}:\n", f"| method | {' | '.join(sets)} |", "|---" * (len(sets) + 1) + "|"]
        for method, pairs in methods.items():
            means = [_mean([value for pair, value in pairs.items() if pair[0] == each]) for each in sets]
            parts.append(f"| {_bold(method)} | {' | '.join(means)} |")
    return "\n".join(parts)


def _yardsticks(cells: Sequence[Record]) -> str:
    """Returns the table of scores of the picks, which need no training."""
    columns = ("relevant", "covered", "originals", "score", "spoilt", "select_seconds")
    rows = [
        "\nThe picks themselves: share of the targets' tasks; target tasks (of four) with at least half of their "
        "fair share; different originals;\noverlap with a fair set without repetition; garbage and wrong "
        "answers; CPU seconds to pick. "
        "Means.\n",
        f"| variant | method | {' | '.join(columns)} |",
        "|---" * (len(columns) + 2) + "|",
    ]
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for cell in cells:
        if cell["method"] != UNTUNED:
            groups[str(cell["variant"]), str(cell["method"])].append(cell)
    for (variant, method), group in sorted(groups.items(), key=lambda item: (item[0][0], -_number(item[1], "score"))):
        means = [_mean([float(cell[column]) for cell in group if cell[column] is not None], 2) for column in columns]
        rows.append(f"| {variant} | {_bold(method)} | {' | '.join(means)} |")
    return "\n".join(rows)


def _number(group: Sequence[Record], column: str) -> float:
    return statistics.fmean(float(cell[column] or 0) for cell in group)


def _mean(numbers: Sequence[Any], digits: int = 3) -> str:
    return f"{statistics.fmean(numbers):.{digits}f}" if numbers else ""
