"""What a selection comes to in one sentence, and what to do next; the first lines of the report and of the card."""

from __future__ import annotations

from collections.abc import Sequence

from itl_hf.selection.diagnosis.diagnosis import Diagnosis, TargetDiagnosis, Verdict

#: Targets that are named in a sentence; of more, the first ones.
MOST_NAMED = 8
#: What is said of targets that are not taught, of one and of several.
PARTS: dict[Verdict, tuple[str, str]] = {
    "unteachable": ("this pool cannot teach {}", "this pool cannot teach {}"),
    "far": ("{} lies far from every row", "{} lie far from every row"),
    "improvable": ("{} would gain from more picks", "{} would gain from more picks"),
    "exhausted": ("{} has little more to gain from this pool", "{} have little more to gain from this pool"),
}


def verdict(diagnosis: Diagnosis) -> str:
    """Says in one sentence how many targets the picks teach, and what became of the others.

    Example:
        >>> from itl_hf import Selection
        >>> verdict(Selection.load("selected").diagnose()).startswith("The picks teach")
        True
    """
    targets = [target for target in diagnosis.targets if target.verdict != "empty"]
    taught = diagnosis.of("taught")
    if len(taught) == len(targets):
        whole = "" if diagnosis.exact else "at most "
        whose = "its" if len(targets) == 1 else "their"
        end = f"{diagnosis.left:.0%} of {whose} variance is left, and all rows of the pool would leave {whole}"
        return f"The picks teach {_all(targets)}: {end}{diagnosis.whole_pool:.0%}."
    parts = [_part(kind, len(diagnosis.of(kind))) for kind in PARTS if diagnosis.of(kind)]
    start = f"{len(taught)}" if taught else "none"
    if len(targets) == 1:
        return f"The picks do not teach the target: {parts[0].replace('1', 'it', 1)}."
    return f"The picks teach {start} of {len(targets)} targets; {', '.join(parts)}."


def _part(kind: Verdict, count: int) -> str:
    return PARTS[kind][count > 1].format(count)


def next_steps(diagnosis: Diagnosis) -> list[str]:
    """Returns what to do before training or instead of it, a sentence each, the most important first."""
    steps = [
        *_copies(diagnosis),
        *_missing_rows(diagnosis),
        *_more_picks(diagnosis),
        *_fewer_picks(diagnosis),
    ]
    if any(notice.kind == "contamination" and notice.ranks for notice in diagnosis.notices):
        return steps
    return [*steps, "Train on the picked rows: selection.dataset, or attach(trainer, selection) where a script exists."]


def _copies(diagnosis: Diagnosis) -> list[str]:
    ranks = {rank for notice in diagnosis.notices if notice.kind == "contamination" for rank in notice.ranks}
    if not ranks:
        return []
    rows = "a row that is a copy" if len(ranks) == 1 else f"{len(ranks)} rows that are copies"
    return [f"Select again without {rows} of targets: trained on, they would make a measurement worthless."]


def _missing_rows(diagnosis: Diagnosis) -> list[str]:
    missing, used_up = diagnosis.out_of_reach, diagnosis.of("exhausted")
    steps = []
    if missing:
        steps.append(f"Add rows like {_named(missing)} to the pool: it has none that teach {_them(missing)}.")
    if used_up:
        steps.append(f"For {_named(used_up)}, add other rows to the pool: more picks from this one change little.")
    return steps


def _more_picks(diagnosis: Diagnosis) -> list[str]:
    targets = diagnosis.of("improvable")
    if not targets:
        return []
    return [f"Pick more rows: this pool can still remove a tenth or more of the variance of {_named(targets)}."]


def _fewer_picks(diagnosis: Diagnosis) -> list[str]:
    spare = {rank for notice in diagnosis.notices if notice.kind == "negligible" for rank in notice.ranks}
    if not spare or diagnosis.of("improvable"):
        return []
    return [f"Fewer rows are enough: the first {min(spare)} of the {diagnosis.picks} picks give almost everything."]


def _all(targets: Sequence[TargetDiagnosis]) -> str:
    return "the target" if len(targets) == 1 else f"all {len(targets)} targets"


def _named(targets: Sequence[TargetDiagnosis]) -> str:
    numbers = ", ".join(str(target.target) for target in targets[:MOST_NAMED])
    rest = f" and {len(targets) - MOST_NAMED} more" if len(targets) > MOST_NAMED else ""
    return f"target{'s' if len(targets) > 1 else ''} {numbers}{rest}"


def _them(targets: Sequence[TargetDiagnosis]) -> str:
    return "it" if len(targets) == 1 else "them"
