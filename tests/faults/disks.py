"""Full and read-only disks, for a test: `python -m tests.faults.disks FOLDER` prints JSON.

It is run where a tmpfs can be mounted, see `small_disk.namespace`; else with limits of the size of files.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import torch

from tests.faults.inputs import TRAINING, copy, embed_pool, select, train, write_model, write_rows
from tests.faults.kills import Stage, import_everything, keep_larger, save_again, trained
from tests.faults.processes import Ended, answer, command, content, differences, run
from tests.faults.small_disk import SmallDisk

STORE = ("--store", "store")
#: How much of what a stage writes finds room.
SHARES = (0.0, 0.4, 0.9)
FULL = {
    "embed": Stage(embed_pool()),
    "select": Stage(select(5, *STORE, "--report", "report.html")),
    "cache": Stage(select(5)),
    "save": Stage(save_again, (select(9), keep_larger, select(5))),
    "index": Stage(command("index", "--store", "store", "--min_rows", 1), (select(5, *STORE),)),
    "preview": Stage(command("push", "selected", "me/x", "--preview", "preview"), (select(5),)),
    "rounds": Stage(train("--examples_per_round", 6), result=trained),
    "picks": Stage(train("--num_examples", 6), result=trained),
}


def fill(stage: Stage, disk: SmallDisk) -> list[dict[str, object]]:
    """Runs a stage while a part of what it writes finds room, and again when all of it does."""
    start = write_rows(disk.folder / "start")
    for job in stage.before:
        assert run(job, start, beside=disk.folder).code == 0
    here = copy(start, disk.folder / "here")
    before = disk.used()
    assert run(stage.job, here, beside=disk.folder).code == 0
    expected, after = stage.result(here), disk.used()
    outcomes: list[dict[str, object]] = []
    for share in SHARES:
        shutil.rmtree(here)
        copy(start, here)
        disk.limit(int(before + share * (after - before)) if disk.is_tmpfs else int(share * after))
        first = run(disk.limited(stage.job), here, beside=disk.folder)
        disk.limit(None)
        again = run(stage.job, here, beside=disk.folder)
        facts = {"share": share, "code": first.code, "text": first.text[-1500:], "again": again.code}
        outcomes.append({**facts, "differing": differences(expected, stage.result(here))[:9]})
        if again.code:
            outcomes[-1]["text"] = again.text[-1500:]
    shutil.rmtree(here)
    shutil.rmtree(start)
    return outcomes


def read(disk: SmallDisk, root: Path) -> dict[str, object]:
    """Runs commands that write to a disk on which nothing can be written, and others that only read from it."""
    source = write_rows(disk.folder / "source")
    for job in (select(5, "--store", "store"), select(5, "--overwrite"), command("cache", "list")):
        assert run(job, source, beside=disk.folder).code == 0
    other = write_rows(root / "other")
    (other / "others.csv").write_text("prompt\na target that is new\n", encoding="utf-8")
    name = str(disk.folder / "source")
    training = [word for option, value in TRAINING.items() if option != "targets" for word in (f"--{option}", value)]
    refused = {
        "select": command(
            "select",
            "--pool",
            "pool.jsonl",
            "--targets",
            "targets.csv",
            "--num_examples",
            3,
            "--model",
            "none",
            "--output_dir",
            f"{name}/new",
        ),
        "embed": command("embed", "pool.jsonl", "--model", "none", "--store", f"{name}/empty"),
        "store": _select(5, "not-written", "--store", f"{name}/store", targets="others.csv"),
        "preview": command("push", f"{name}/selected", "me/x", "--preview", f"{name}/preview"),
        "report": command("report", f"{name}/selected", "--path", f"{name}/report.html"),
        "train": command(
            "train",
            *training,
            "--model_name_or_path",
            "none",
            "--targets",
            "targets.csv",
            "--num_examples",
            3,
            "--output_dir",
            f"{name}/trained",
        ),
    }
    works = {
        "report": command("report", f"{name}/selected", "--path", "report.html"),
        "preview": command("push", f"{name}/selected", "me/x", "--preview", "preview"),
        "diagnose": command("diagnose", f"{name}/selected"),
        "cached": _select_with_cache(f"{name}/cache", 5),
        "store": _select(5, "from-store", "--store", f"{name}/store"),
        "cached anew": _select_with_cache(f"{name}/cache/elsewhere", 4),
        "train": command(
            "train",
            *training,
            "--model_name_or_path",
            "../model",
            "--selection",
            f"{name}/selected",
            "--output_dir",
            "trained",
        ),
    }
    before = content(source, leave_out=("tmp", "home"))
    with disk.read_only() as holds:
        if not holds:
            return {"skipped": "root can write everywhere, and nothing may be mounted"}
        ends: dict[str, dict[str, Ended]] = {"refused": {}, "works": {}}
        for kind, jobs in (("refused", refused), ("works", works)):
            ends[kind] = {one: run(job, other) for one, job in jobs.items()}
    results: dict[str, object] = {
        kind: {one: {"code": ended.code, "text": ended.text[-4000:]} for one, ended in group.items()}
        for kind, group in ends.items()
    }
    return {**results, "same": content(source, leave_out=("tmp", "home")) == before}


def _select(number: int, name: str, *words: object, targets: str = "targets.csv"):
    rows = ("--pool", "pool.jsonl", "--targets", targets, "--num_examples", number)
    return command("select", *rows, "--model", "../model", "--layer", 1, "--output_dir", name, *words)


def _select_with_cache(folder: str, number: int):
    job = _select(number, f"selected{number}")

    def run_with_cache() -> None:
        import os

        os.environ["ITL_HF_CACHE"] = folder
        job()

    return run_with_cache


def main(root: Path) -> None:
    torch.set_num_threads(1)
    import_everything()
    write_model(root)
    disk = SmallDisk(root / "disk")
    (disk.folder / "model").symlink_to(root / "model")
    results: dict[str, object] = {"kind": disk.kind, "full": {}}
    for name, stage in FULL.items():
        results["full"][name] = fill(stage, disk)  # type: ignore[index]
        print(name, results["full"][name], file=sys.stderr, flush=True)  # type: ignore[index]
    results["read_only"] = read(disk, root)
    print(results["read_only"], file=sys.stderr, flush=True)
    answer(results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
