"""Kills `itl-hf push` with SIGKILL, for a test: `python -m tests.faults.pushes FOLDER` prints JSON.

The Hub is one on this machine. Its libraries read its address when they are imported, which is therefore done late.
"""

from __future__ import annotations

import copy as copies
import os
import random
import shutil
import signal
import sys
from pathlib import Path

from tests.hub_server import TOKEN, HubServer

NAME = "me/selected"


def files(hub: HubServer) -> dict[str, bytes]:
    """Returns the files of the newest commit; none if there is no repository."""
    if ("datasets", NAME) not in hub.repos:
        return {}
    repository = hub.dataset(NAME)
    commit = repository.at("main")
    return {} if commit is None else dict(commit.files)


def kill_pushes(hub: HubServer, root: Path) -> dict[str, object]:
    """Publishes a selection over another one, undisturbed and killed."""
    from tests.faults.inputs import copy, select, write_rows
    from tests.faults.kills import SEED, Stage, describe, keep_larger, moments, require
    from tests.faults.processes import command, launch, run

    stage = Stage(command("push", "selected", NAME), num_operations=16, num_times=14)
    start = write_rows(root / "start")
    for job in (select(9), keep_larger, select(5), command("push", "larger", NAME)):
        require(run(job, start))
    earlier, earlier_files = copies.deepcopy(hub.repos), files(hub)
    ended = require(run(stage.job, copy(start, root / "undisturbed")))
    expected = files(hub)
    assert earlier_files != expected
    kills, faults, attempts = 0, [], moments(stage, ended, random.Random(SEED))
    for moment in attempts:
        hub.repos = copies.deepcopy(earlier)
        here = copy(start, root / "killed")
        first = launch(stage.job, here, kill_at=moment[0]).wait(kill_after=moment[1])
        kills += first.code == -signal.SIGKILL
        is_whole = files(hub) in (earlier_files, expected)
        again = run(stage.job, here)
        differing = [name for name in {*files(hub), *expected} if files(hub).get(name) != expected.get(name)]
        differing += [] if is_whole else ["mixed commit"]
        differing += [path.name for path in (here / "tmp").iterdir()]
        faults += describe(moment, first, again, differing)
        shutil.rmtree(here)
    points = sum(point is not None for point, _ in attempts)
    return {"kills": kills, "points": points, "operations": ended.operations, "faults": faults}


def main(root: Path) -> None:
    with HubServer() as hub:
        settings = {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}
        os.environ.update({**settings, "NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"})
        import torch

        from tests.faults.inputs import write_model
        from tests.faults.kills import import_everything
        from tests.faults.processes import answer

        torch.set_num_threads(1)
        import_everything()
        write_model(root)
        result = kill_pushes(hub, root)
        print(result, file=sys.stderr)
        answer(result)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
