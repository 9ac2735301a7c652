"""`itl-hf doctor`: looks at this machine and says what is wrong and what to do."""

from __future__ import annotations

import dataclasses

import typer

from itl_hf.cli.config import ConfigOption
from itl_hf.cli.errors import FAILED
from itl_hf.cli.output import Outcome


def doctor(config: ConfigOption = None) -> Outcome:
    """Look at this machine: versions, GPUs, free disk, caches, and whether picks are exact on its hardware.

    Takes about ten seconds and sends nothing. The exit status is 1 if something is wrong.
    """
    # Heavy imports wait until the command runs, so that --help is quick.
    from itl_hf.cli.doctor_checks import all_checks

    checks = all_checks()
    num_wrong = sum(check.verdict == "wrong" for check in checks)
    end = "nothing is wrong" if not num_wrong else f"{num_wrong} {'thing is' if num_wrong == 1 else 'things are'} wrong"
    facts = {"wrong": num_wrong, "checks": [dataclasses.asdict(check) for check in checks]}
    text = "\n".join([*(check.line() for check in checks), end])
    return Outcome(text, facts, afterwards=_fail if num_wrong else None)


def _fail() -> None:
    raise typer.Exit(FAILED)
