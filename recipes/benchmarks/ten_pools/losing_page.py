"""Writes the page about the cells in which ITL is behind round-robin."""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence

from recipes.benchmarks.ten_pools.losing_changes import CHANGES, ITL, ROUND_ROBIN
from recipes.benchmarks.ten_pools.losing_findings import YARDSTICKS, Diagnosis, diagnoses, mean
from recipes.benchmarks.ten_pools.losing_place import COLUMNS, GROUPS
from recipes.benchmarks.ten_pools.losing_results import Row
from recipes.benchmarks.ten_pools.losing_sentences import difference, sentences
from recipes.benchmarks.ten_pools.tables import Comparison

#: Rows of the tables of starving tasks and of other tasks.
MOST_TASKS = 6
#: Options of the two methods in the file of losses.
LOSS_METHODS = ({"acquisition": "itl", "shortlist": None}, {"acquisition": "round_robin"})

HEAD = """# Why ITL loses where it loses

`python -m recipes.benchmarks.ten_pools.losing` wrote this page; its numbers are in `pools_losing.csv` (yardsticks of
every selection), `pools_losing_targets.csv` (what each target gets) and `pools_losing_tasks.csv` (picks of each task).

96 picks by ITL over the whole pool and by round-robin, both with the default kernel and noise, for the same target
sets of the development half. A cell is a pool with shares of its targets. ITL is *behind* where its mean difference
over sets in `relevant` (share of picks of the targets' tasks) or `score` (share of a fair set of these tasks) is below
minus one standard error. One yardstick in six without a real difference is so by chance, and of thirteen changes the
best one looks better than it is. The differences of changes are to round-robin with the default kernel. `relatives` has
no rows of the targets' tasks and therefore neither yardstick. Yardsticks are not losses: where the loss of the same
cells was measured, the first table has it, and the loss decides.

- *Picks of a target*: those whose nearest target, by the correlation of the kernel, it is. A target *starves* with
  fewer than half of its fair share, the picks divided by the targets. Where that share is two, chance alone leaves many
  with one or none; compare with round-robin.
- *Tightness*: mean correlation of a target with its 12 nearest rows. *Variance left*: share of the target's prior
  variance after all picks.
- *Near targets*: number of targets that have a row among their 12 nearest. With a handful of targets these are the
  rows that round-robin picks, so that it has at least one by construction.
- The noise changes scale the variance of picks and targets that the rule gives for ITL. A change of the kernel has the
  noise of that kernel's rule.
- A change *mends* if it is better than ITL by more than one standard error in the yardsticks in which ITL is behind,
  and in none behind round-robin; it *helps* if it is better than ITL and still behind, and *hurts* if it is worse than
  ITL by more than one standard error.
"""


def page(tables: Mapping[str, Sequence[Row]], losses: Sequence[Mapping[str, str]] = ()) -> str:
    """Returns Markdown.

    Args:
        tables (`Mapping[str, Sequence[Row]]`):
            Rows of `cells`, `targets` and `tasks`.
        losses (`Sequence[Mapping[str, str]]`, *optional*):
            Rows of `pools_losses.csv`, for the loss of the same cells on that benchmark's sets.
    """
    everything = diagnoses(tables)
    losing = [diagnosis for diagnosis in everything if diagnosis.behind]
    parts = [HEAD, "## All cells\n", _overview(everything, losses), ""]
    if losing:
        parts += ["## What changes of one part do\n", _changes_overview(losing), ""]
    for diagnosis in losing:
        parts += _section(diagnosis)
    return "\n".join(parts) + "\n"


def loss_difference(losses: Sequence[Mapping[str, str]], pool: str, shares: str, picks: int = 96) -> Comparison | None:
    """Returns held-out loss of ITL over the whole pool minus round-robin's, `None` if it was not measured."""
    methods: tuple[dict[int, list[float]], ...] = ({}, {})  # losses of ITL and of round-robin by set
    for row in losses:
        place = (row["pool"], row["shares"], row["half"], int(float(row["picks"])))
        # By options, since the benchmark's name for ITL over the whole pool depends on what the default is.
        options = json.loads(row["options"])
        if place == (pool, shares, "development", picks) and options in LOSS_METHODS and row["loss"]:
            by_set = methods[LOSS_METHODS.index(options)]
            by_set.setdefault(int(float(row["set"])), []).append(float(row["loss"]))
    itl, rival = ({number: statistics.fmean(each) for number, each in by_set.items()} for by_set in methods)
    common = itl.keys() & rival.keys()
    return Comparison.of({number: itl[number] for number in common}, rival, lower_is_better=True) if common else None


def _overview(everything: Sequence[Diagnosis], losses: Sequence[Mapping[str, str]]) -> str:
    names = [f"{name}: ITL, round-robin, difference" for name in YARDSTICKS]
    rows = []
    for diagnosis in everything:
        loss = loss_difference(losses, diagnosis.pool, diagnosis.shares)
        comparisons = diagnosis.to_rival(ITL.name)
        values = [
            f"{comparisons[name].mean:.3f}, {mean(diagnosis.cells[ROUND_ROBIN.name], name):.3f}, "
            f"{difference(comparisons[name])}"
            for name in YARDSTICKS
        ]
        rows.append(
            [
                f"{diagnosis.pool}, {diagnosis.shares}",
                str(diagnosis.num_sets),
                *values,
                ", ".join(diagnosis.behind) or "-",
                f"{difference(loss)} ({loss.better + loss.worse} sets)" if loss else "not measured",
            ]
        )
    loss_note = (
        "\nLoss: held-out loss after training on the picks, ITL over the whole pool minus round-robin (negative: ITL "
        "is better), from `pools_losses.csv`."
    )
    head = ["cell", "sets", *names, "behind in", "loss"]
    return table(head, rows) + "\n" + loss_note


def _changes_overview(losing: Sequence[Diagnosis]) -> str:
    verdicts = [diagnosis.verdicts() for diagnosis in losing]
    rows = [["as it is", "", *(_differences(diagnosis, ITL.name) for diagnosis in losing), ""]]
    for change in CHANGES:
        words = [each.get(change.name, "") for each in verdicts]
        values = [
            f"{_differences(diagnosis, change.name)} {word}" if word else ""
            for diagnosis, word in zip(losing, words, strict=True)
        ]
        counts = [f"{word} {words.count(word)}" for word in ("mends", "helps", "hurts") if word in words]
        rows.append([change.name, change.part, *values, ", ".join(counts) or "-"])
    head = ["change", "part", *(f"{each.pool}, {each.shares}" for each in losing), "cells"]
    return "Differences to round-robin, relevant / score:\n\n" + table(head, rows)


def _differences(diagnosis: Diagnosis, change: str) -> str:
    comparisons = diagnosis.to_rival(change)
    return " / ".join(f"{comparisons[name].difference or 0:+.3f}" for name in YARDSTICKS)


def _section(diagnosis: Diagnosis) -> list[str]:
    behind = ", ".join(f"{name} {difference(comparison)}" for name, comparison in diagnosis.behind.items())
    return [
        f"## {diagnosis.pool}, {diagnosis.shares}\n",
        f"{diagnosis.num_sets} sets; behind in {behind}.\n",
        *(f"- {sentence}" for sentence in sentences(diagnosis)),
        "\nTargets:\n",
        _target_table(diagnosis),
        *_starving_tasks(diagnosis),
        "\nPicks of the targets' tasks and of other tasks, means over picks:\n",
        _profile_table(diagnosis),
        *_other_tasks(diagnosis),
        "\nOne part changed, difference to round-robin and to ITL:\n",
        _change_table(diagnosis),
        "",
    ]


def _target_table(diagnosis: Diagnosis) -> str:
    starving = diagnosis.starving("itl")
    others = [row for row in diagnosis.targets if row not in starving]
    rows = [
        [name, str(len(group)), *(_number(mean(group, column)) for column in TARGET_COLUMNS)]
        for name, group in (("starving under ITL", starving), ("others", others))
    ]
    return table(["targets", "number", *TARGET_COLUMNS.values()], rows)


TARGET_COLUMNS = {
    "fair": "fair share",
    "itl_picks": "picks of ITL",
    "round_robin_picks": "picks of round-robin",
    "tightness": "tightness",
    "itl_left": "variance left, ITL",
    "round_robin_left": "variance left, round-robin",
}


def _starving_tasks(diagnosis: Diagnosis) -> list[str]:
    starving = diagnosis.starving("itl")
    groups: dict[str, list[Row]] = {}
    for row in diagnosis.targets:
        groups.setdefault(row["task"], []).append(row)
    counts = {task: sum(row["task"] == task for row in starving) for task in groups}
    tasks = sorted((task for task in groups if counts[task]), key=lambda task: (-counts[task], task))[:MOST_TASKS]
    if not tasks:
        return []
    rows = [
        [task, f"{counts[task]} of {len(groups[task])}"]
        + [_number(mean(groups[task], column)) for column in list(TARGET_COLUMNS)[1:]]
        for task in tasks
    ]
    head = ["task", "starving targets", *list(TARGET_COLUMNS.values())[1:]]
    return ["\nTasks with the most starving targets, means over all targets of the task:\n", table(head, rows)]


def _profile_table(diagnosis: Diagnosis) -> str:
    names = dict(zip(GROUPS, ("targets' tasks", "other tasks"), strict=True))
    rows = [
        [f"{method}, {names[group]}", *(_number(value) for value in diagnosis.profile(method, group).values())]
        for group in GROUPS
        for method in (ITL.name, ROUND_ROBIN.name)
    ]
    head = ["picks", "in a set", "near targets", "correlation with the nearest target", "with all targets, mean"]
    return table(head, rows)


def _other_tasks(diagnosis: Diagnosis) -> list[str]:
    parts = []
    over_served: dict[str, list[float]] = {}
    for row in diagnosis.over_served("itl"):
        over_served.setdefault(row["task"], []).append(row["itl"] / row["fair"])
    if over_served:
        tasks = sorted(over_served, key=lambda task: (-max(over_served[task]), task))[:MOST_TASKS]
        texts = [f"{_escape(task)} ({', '.join(f'{ratio:.1f}' for ratio in over_served[task])})" for task in tasks]
        parts.append(f"\nOver-served tasks of targets (picks of ITL over fair share, by set): {'; '.join(texts)}.")
    texts = []
    for method, column in COLUMNS.items():
        counts = list(diagnosis.other_tasks(column).items())[:MOST_TASKS]
        texts.append(f"{method}: {', '.join(f'{_escape(task)} {count:.1f}' for task, count in counts) or 'none'}")
    parts.append(f"\nMost frequent other tasks, picks in a set: {'; '.join(texts)}.")
    return parts


def _change_table(diagnosis: Diagnosis) -> str:
    verdicts = diagnosis.verdicts()
    rows = []
    for change in CHANGES:
        if change.name in verdicts:
            rival, itl = diagnosis.to_rival(change.name), diagnosis.to_itl(change.name)
            values = [difference(comparisons[name]) for name in YARDSTICKS for comparisons in (rival, itl)]
            rows.append([change.name, change.part, *values, verdicts[change.name]])
    names = [f"{name} - {other}" for name in YARDSTICKS for other in ("round-robin", "ITL")]
    return table(["change", "part", *names, ""], rows) if rows else "Not measured yet."


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Returns a Markdown table; cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_escape(cell) for cell in line)} |" for line in lines)


def _escape(text: str) -> str:
    for character in ("\\", "|", "<", "`", "*", "_"):
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
