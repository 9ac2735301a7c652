"""`itl-hf diagnose`: what the picks taught about each target, and what to know before training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any

import typer

from itl_hf.cli.config import ConfigOption
from itl_hf.cli.load_selection import SelectionArgument, saved_selection
from itl_hf.cli.output import Outcome

if TYPE_CHECKING:
    from itl_hf.selection.diagnosis.diagnosis import Diagnosis


def diagnose(
    selection: SelectionArgument,
    rows: Annotated[int, typer.Option("--rows", help="Targets to show, the worst first; 0 for all.")] = 30,
    config: ConfigOption = None,
) -> Outcome:
    """Show what a selection could not do: targets that the pool cannot teach, copies, picks without information."""
    from itl_hf.selection.diagnosis.verdict import next_steps, verdict

    if rows < 0:
        raise typer.BadParameter(f"--rows must be 0 or more, got {rows}")
    diagnosis = saved_selection(selection).diagnose()
    sentence, steps = verdict(diagnosis), next_steps(diagnosis)
    list_of_steps = "\n".join(f"- {step}" for step in steps)
    words = f"{sentence}\n{diagnosis.text(rows or None)}\n\nNext:\n{list_of_steps}"
    return Outcome(words, {"verdict": sentence, "next_steps": steps, **_facts(diagnosis)})


def _facts(diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "picks": diagnosis.picks,
        "pool_size": diagnosis.pool_size,
        "variance_left": diagnosis.left,
        "whole_pool": diagnosis.whole_pool,
        "exact": diagnosis.exact,
        "unteachable": [target.target for target in diagnosis.unteachable],
        "far": [target.target for target in diagnosis.far],
        # Ranks count from 1, as in the column `itl_rank` and on every page.
        "notices": [
            dataclasses.asdict(notice) | {"ranks": [rank + 1 for rank in notice.ranks]} for notice in diagnosis.notices
        ],
        "targets": [dataclasses.asdict(target) | {"verdict": target.verdict} for target in diagnosis.targets],
    }
