"""Says in words what the numbers of a cell show. Every sentence follows a rule; none is written by hand."""

from __future__ import annotations

import numpy as np

from recipes.benchmarks.ten_pools.losing_changes import CHANGES, ITL, ROUND_ROBIN
from recipes.benchmarks.ten_pools.losing_findings import (
    HELPS,
    HURTS,
    MENDS,
    UNCLEAR,
    Diagnosis,
    is_ahead,
    is_behind,
    mean,
)
from recipes.benchmarks.ten_pools.tables import Comparison

#: A difference of correlations that is called one.
LEAST_DIFFERENCE = 0.02
#: A correlation over tasks that is called one.
LEAST_CORRELATION = 0.3
_VERDICTS = {
    MENDS: "no longer behind, and better than ITL",
    HELPS: "better than ITL, still behind",
    HURTS: "worse than ITL",
    UNCLEAR: "no clear difference",
}


def sentences(diagnosis: Diagnosis) -> list[str]:
    """Returns the findings of a cell in which ITL is behind."""
    return [
        _starving(diagnosis),
        *_neighbourhood(diagnosis),
        _variance(diagnosis),
        _other_picks(diagnosis),
        _over_served(diagnosis),
        *_balance(diagnosis),
        *_noise(diagnosis),
        *_parts(diagnosis),
    ]


def difference(comparison: Comparison) -> str:
    """Returns a difference with its standard error."""
    if comparison.difference is None:
        return "-"
    return f"{comparison.difference:+.3f}" + ("" if comparison.error is None else f" ± {comparison.error:.3f}")


def _starving(diagnosis: Diagnosis) -> str:
    shares = [len(diagnosis.starving(method)) / len(diagnosis.targets) for method in ("itl", "round_robin")]
    comparison = "more than" if shares[0] > shares[1] else "no more than"
    return f"**Targets:** {shares[0]:.0%} starve under ITL, {comparison} under round-robin ({shares[1]:.0%})."


def _neighbourhood(diagnosis: Diagnosis) -> list[str]:
    starving = diagnosis.starving("itl")
    others = [row for row in diagnosis.targets if row not in starving]
    if not starving or not others:
        return []
    tightness, usual = mean(starving, "tightness"), mean(others, "tightness")
    assert tightness is not None
    assert usual is not None
    gap = tightness - usual
    word = "about as tight as" if abs(gap) < LEAST_DIFFERENCE else "looser than" if gap < 0 else "tighter than"
    return [
        f"The neighbourhoods of starving targets are {word} those of the others: mean correlation with their 12 "
        f"nearest rows {tightness:.2f} against {usual:.2f}."
    ]


def _variance(diagnosis: Diagnosis) -> str:
    left = [mean(diagnosis.targets, f"{method}_left") or 0.0 for method in ("itl", "round_robin")]
    comparison = diagnosis.remaining_variance()
    if is_behind(comparison):
        verdict = "by the kernel's own measure ITL's picks tell more about the targets: kernel and labels disagree"
    elif is_ahead(comparison):
        verdict = "ITL's picks leave more variance at the single targets, too: its joint objective is what differs"
    else:
        verdict = "the kernel sees no clear difference between the two sets of picks, the labels do"
    return (
        f"**Variance left at the targets:** ITL {left[0]:.3f}, round-robin {left[1]:.3f} ({difference(comparison)}): "
        f"{verdict}."
    )


def _other_picks(diagnosis: Diagnosis) -> str:
    itl, rival = (diagnosis.profile(name, "other") for name in (ITL.name, ROUND_ROBIN.name))
    text = f"**Rows of no target's task:** {itl['count']:.1f} of ITL's picks, {rival['count']:.1f} of round-robin's."
    if itl["near"] is None:
        return text
    text += (
        f" ITL's are among the 12 nearest rows of {itl['near']:.2f} targets and have correlation {itl['nearest']:.2f} "
        f"with the nearest"
    )
    if rival["near"] is None or rival["nearest"] is None or itl["nearest"] is None:
        return text + "."
    text += f"; round-robin's {rival['near']:.2f} and {rival['nearest']:.2f}."
    if itl["nearest"] < rival["nearest"] - LEAST_DIFFERENCE:
        text += " ITL takes rows farther from every single target."
    return text + _sharing(diagnosis)


def _sharing(diagnosis: Diagnosis) -> str:
    """Returns whether ITL's picks of other tasks are related to many targets rather than to one."""
    ratios = []
    for method in (ITL.name, ROUND_ROBIN.name):
        profile = diagnosis.profile(method, "other")
        if profile["average"] is None or not profile["nearest"]:
            return ""
        ratios.append(profile["average"] / profile["nearest"])
    if ratios[0] < ratios[1] + LEAST_DIFFERENCE:
        return ""
    return (
        f" They are related to all targets rather than to one (mean over highest correlation {ratios[0]:.2f} against "
        f"{ratios[1]:.2f}): rows that targets share."
    )


def _over_served(diagnosis: Diagnosis) -> str:
    counts = [len(diagnosis.over_served(method)) for method in ("itl", "round_robin")]
    total = sum(row["fair"] is not None for row in diagnosis.tasks)
    return (
        f"**Tasks with more than 1.5 times their fair share:** {counts[0]} of {total} under ITL, {counts[1]} under "
        "round-robin."
    )


def _balance(diagnosis: Diagnosis) -> list[str]:
    """Returns which of the targets' tasks get more than others: those with few targets, those of similar rows."""
    balance = {method: diagnosis.balance(method) for method in ("itl", "round_robin")}
    texts = []
    if diagnosis.shares == "mixture":
        most, fewest = ([balance[method][end] for method in balance] for end in ("most_targets", "fewest_targets"))
        texts.append(
            f"Of its fair share the task with most targets gets {most[0]:.2f} under ITL and {most[1]:.2f} under "
            f"round-robin, the task with the fewest {fewest[0]:.2f} and {fewest[1]:.2f}."
        )
    itl, rival = (balance[method]["tightness"] for method in balance)
    if np.isfinite(itl):
        word = "no more" if abs(itl) < LEAST_CORRELATION else "less" if itl < 0 else "more"
        other = f"; round-robin {rival:+.2f}" if np.isfinite(rival) else ""
        texts.append(
            f"Tasks whose targets have tight neighbourhoods get {word} of their fair share than others under ITL "
            f"(correlation over tasks of tightness and picks over fair share {itl:+.2f}{other})."
        )
    return ["**Balance between tasks:** " + " ".join(texts)] if texts else []


def _noise(diagnosis: Diagnosis) -> list[str]:
    changes = [change.name for change in CHANGES if change.part == "noise"]
    verdicts = diagnosis.verdicts()
    if not set(changes) <= set(verdicts):
        return []
    parts = []
    for yardstick, comparison in diagnosis.behind.items():
        values = [f"{difference(diagnosis.to_rival(name)[yardstick])} with {name}" for name in changes]
        parts.append(f"{yardstick} {difference(comparison)} as it is, {', '.join(values)}")
    words = "; ".join(f"{name}: {_VERDICTS[verdicts[name]]}" for name in changes)
    return [f"**The noise rule:** {'; '.join(parts)} ({words})."]


def _parts(diagnosis: Diagnosis) -> list[str]:
    verdicts = diagnosis.verdicts()
    if not verdicts:
        return ["Changes of single parts: not measured yet."]
    groups = {word: [name for name, verdict in verdicts.items() if verdict == word] for word in _VERDICTS}
    texts = [
        f"{_VERDICTS[word]}: {', '.join(f'*{name}*' for name in names)}" for word, names in groups.items() if names
    ]
    return [f"**What was tried:** {'; '.join(texts)}."]
