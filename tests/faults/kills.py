"""Kills every stage with SIGKILL, for a test: `python -m tests.faults.kills FOLDER STAGE ...` prints JSON.

Each stage first runs undisturbed. It is then killed in copies of the same folder: at seeded numbers of its file
operations and at seeded times. The same command runs again in the copy, and must end with what it made undisturbed.
"""

from __future__ import annotations

import json
import random
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from tests.faults.inputs import copy, embed_pool, select, train, write_model, write_rows
from tests.faults.processes import Ended, Job, answer, command, content, differences, launch, run

SEED = 20261129
#: Entries of the Trainer's log that hold times.
_TIMES = ("seconds", "runtime", "per_second")


@dataclass(frozen=True)
class Stage:
    """What is killed.

    Args:
        job: the stage.
        before: jobs that have ended when it begins.
        num_operations: how many of its file operations it is killed at, at most.
        num_times: how many times it is killed at.
        result: what must be the same in the end.
        refusal: what the second run may say instead of running, where the first one was killed after it was done.
    """

    job: Job
    before: tuple[Job, ...] = ()
    num_operations: int = 30
    num_times: int = 4
    result: Callable[[Path], dict[str, str]] = content
    refusal: str | None = None


def trained(folder: Path) -> dict[str, str]:
    """Returns the content of a folder with the trainer's states without times.

    Model cards are left out: PEFT adds its version to an existing card whenever it saves beside it.
    """
    entries = content(folder, leave_out=("home", "tmp", "cache"))
    entries = {name: value for name, value in entries.items() if not name.endswith("README.md")}
    for name in [name for name in entries if name.endswith("trainer_state.json")]:
        state = json.loads((folder / name).read_text())
        state["log_history"] = [
            {key: value for key, value in line.items() if not key.endswith(_TIMES)} for line in state["log_history"]
        ]
        entries[name] = json.dumps(state, sort_keys=True)
    return entries


def save_again() -> None:
    """Saves a larger selection over one that is there, beside a file of somebody else."""
    from itl_hf import Selection

    Selection.load("larger").save("selected", overwrite=True)


def foreign_file() -> None:
    Path("selected/notes.md").write_text("mine")


def keep_larger() -> None:
    shutil.move("selected", "larger")


STORE = ("--store", "store")
_HELD = "holds a selection already"
STAGES = {
    "embed": Stage(embed_pool(), num_operations=30, num_times=8),
    "select": Stage(select(5, *STORE), num_operations=30, refusal=_HELD),
    "cache": Stage(select(5), num_operations=24, refusal=_HELD),
    "clear": Stage(command("cache", "clear", "--yes"), (select(5), keep_larger), num_operations=6, num_times=1),
    "save": Stage(save_again, (select(9), keep_larger, select(5), foreign_file), num_operations=50),
    "index": Stage(
        command("index", "--store", "store", "--min_rows", 1), (select(5, *STORE),), num_operations=20, num_times=6
    ),
    "preview": Stage(
        command("push", "selected", "me/x", "--preview", "preview"),
        (select(5),),
        num_operations=20,
        refusal="is not empty",
    ),
    "report": Stage(
        command("report", "selected", "--path", "report.html"), (select(5),), num_operations=6, num_times=4
    ),
    "rounds": Stage(train("--examples_per_round", 6), num_operations=24, num_times=16, result=trained),
    "picks": Stage(train("--num_examples", 6), num_operations=16, num_times=4, result=trained),
}


def kill_stage(stage: Stage, folder: Path, generator: random.Random) -> dict[str, object]:
    """Runs a stage undisturbed and killed, and returns the numbers of kills and what differed afterwards."""
    start = write_rows(folder / "start")
    for job in stage.before:
        require(run(job, start))
    require(run(stage.job, copy(start, folder / "first")))  # the others need not import what it imported
    undisturbed = copy(start, folder / "undisturbed")
    ended = require(run(stage.job, undisturbed))
    expected = stage.result(undisturbed)
    attempts = moments(stage, ended, generator)
    kills, faults = 0, []
    for moment in attempts:
        here = copy(start, folder / "killed")
        first = launch(stage.job, here, kill_at=moment[0]).wait(kill_after=moment[1])
        kills += first.code == -signal.SIGKILL
        again = run(stage.job, here)
        if again.code == 2 and stage.refusal is not None and stage.refusal in again.text:
            again = replace(again, code=0)
        faults += describe(moment, first, again, differences(expected, stage.result(here)))
        shutil.rmtree(here)
    points = sum(point is not None for point, _ in attempts)
    return {"kills": kills, "points": points, "operations": ended.operations, "faults": faults}


def moments(stage: Stage, ended: Ended, generator: random.Random) -> list[tuple[int | None, float | None]]:
    """Returns when a stage is killed: numbers of file operations, then seconds after its start."""
    points = sorted(generator.sample(range(ended.operations), min(stage.num_operations, ended.operations)))
    times = [generator.uniform(0.0, ended.seconds) for _ in range(stage.num_times)]
    return [*((point, None) for point in points), *((None, seconds) for seconds in times)]


def describe(moment: object, first: Ended, again: Ended, differing: list[str]) -> list[dict[str, object]]:
    """Returns what went wrong after a kill; nothing if the second run ended as the undisturbed one did."""
    if not (again.code or differing or first.code not in (-signal.SIGKILL, 0)):
        return []
    text = again.text if again.code else first.text if first.code > 0 else ""
    return [{"moment": moment, "code": again.code, "differing": differing[:9], "text": text[-1500:]}]


def require(ended: Ended) -> Ended:
    """Returns how an undisturbed run ended, which must be well."""
    if ended.code:
        raise RuntimeError(f"the undisturbed run failed with {ended.code}: {ended.text[-3000:]}")
    return ended


def import_everything() -> None:
    """Imports what the stages import, once for all processes."""
    import faiss  # noqa: F401
    import peft  # noqa: F401
    import trl
    from transformers import LlamaForCausalLM  # noqa: F401

    import itl_hf.cli.main
    import itl_hf.hub
    import itl_hf.report.page
    import itl_hf.selection.selector
    import itl_hf.training  # noqa: F401

    _ = trl.SFTTrainer, trl.SFTConfig, trl.TrlParser  # imported when they are first used


def main(root: Path, *names: str) -> None:
    torch.set_num_threads(1)
    import_everything()
    write_model(root)
    generator = random.Random(SEED)
    results = {}
    for name in names:
        (root / name).mkdir()
        (root / name / "model").symlink_to(root / "model")
        results[name] = kill_stage(STAGES[name], root / name, generator)
        print(name, results[name], file=sys.stderr, flush=True)
    answer(results)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
