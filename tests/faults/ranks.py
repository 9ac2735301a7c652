"""One of two processes dies or raises, for a test: `python -m tests.faults.ranks FOLDER` prints JSON.

Training is not among the stages: within it only the launcher ends the others (`tests/hosts`).

The two find each other by the variables that torchrun sets. The last case is run by torchrun itself.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import accelerate  # noqa: F401  # imported before the fork, once for all
import torch

from tests.faults.inputs import MODEL, ROWS, copy, embed_pool, select, write_model, write_rows
from tests.faults.kills import Stage, import_everything
from tests.faults.one_rank import meet
from tests.faults.processes import Ended, Job, answer, content, differences, launch
from tests.worlds import ROOT

STAGES = {
    "embed": Stage(embed_pool()),
    "select": Stage(select(5, "--store", "store")),
}
#: Seconds within which the other process must have ended.
_LIMIT = 120.0


def two(job: Job, folder: Path, fate: str | None = None, victim: int = 0, place: str = "") -> list[Ended]:
    """Runs a job on two processes, one of which meets a fate."""

    def run() -> None:
        if fate is not None:
            meet(fate, victim, place)
        job()

    with socket.socket() as free_socket:
        free_socket.bind(("127.0.0.1", 0))
        port = free_socket.getsockname()[1]
    common = {"WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        launch(run, folder, name=f"rank{rank}", RANK=rank, LOCAL_RANK=rank, **common)  # type: ignore[arg-type]
        for rank in range(2)
    ]
    return [process.wait(limit=_LIMIT) for process in processes]


def fates(name: str, root: Path) -> list[dict[str, object]]:
    stage, start = STAGES[name], write_rows(root / "start")
    undisturbed = copy(start, root / "undisturbed")
    ends = two(stage.job, undisturbed)
    assert [ended.code for ended in ends] == [0, 0], [ended.text[-3000:] for ended in ends]
    expected, outcomes = stage.result(undisturbed), []
    for fate, victim in (("dies", 0), ("dies", 1), ("raises", 1), ("raises", 0)):
        here = copy(start, root / "here")
        first, again = two(stage.job, here, fate, victim, name), two(stage.job, here)
        outcomes.append(
            {
                "fate": fate,
                "victim": victim,
                "codes": [ended.code for ended in first],
                "seconds": max(ended.seconds for ended in first),
                "texts": [ended.text[-1500:] for ended in first],
                "again": [ended.code for ended in again],
                "differing": differences(expected, stage.result(here))[:9],
            }
        )
        if outcomes[-1]["again"] != [0, 0]:
            outcomes[-1]["texts"] = [ended.text[-1500:] for ended in again]
        shutil.rmtree(here)
    shutil.rmtree(start)
    shutil.rmtree(undisturbed)
    return outcomes


def with_torchrun(root: Path) -> dict[str, object]:
    """One process dies under torchrun; the same command then ends with a selection."""
    here = write_rows(root / "torchrun")
    words = ["select", *ROWS, *map(str, MODEL), "--num_examples", "5", "--output_dir", "selected"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ITL_HF_CACHE": str(here / "cache")}
    codes, seconds = [], []
    for module in (["tests.faults.one_rank", "dies", "0", "select"], ["itl_hf"]):
        start = time.monotonic()
        command = [*launcher, "-m", *module, *words]
        process = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, check=False)
        codes.append(process.returncode)
        seconds.append(time.monotonic() - start)
    return {
        "codes": codes,
        "seconds": seconds,
        "text": process.stderr[-1500:],
        "content": sorted(content(here / "selected")),
    }


def main(root: Path, *names: str) -> None:
    torch.set_num_threads(1)
    import_everything()
    write_model(root)
    results: dict[str, object] = {}
    for name in names or STAGES:
        if name in STAGES:
            (root / name).mkdir()
            (root / name / "model").symlink_to(root / "model")
            results[name] = fates(name, root / name)
            print(name, results[name], file=sys.stderr, flush=True)
    if not names or "torchrun" in names:
        results["torchrun"] = with_torchrun(root)
        print("torchrun", results["torchrun"], file=sys.stderr, flush=True)
    answer(results)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
