"""Processes that are forked from one that has imported everything, so that a kill costs less than a second.

A job is a function that works in the folder in which it is called. What it prints goes to a file beside that folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.faults.operations import Operations

Job = Callable[[], object]
LIMIT = 300.0


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Args:
        code: exit code; -9 for one that was killed.
        operations: file operations of a process that was not killed.
        seconds: how long it ran.
        text: what it printed.
    """

    code: int
    operations: int
    seconds: float
    text: str


@dataclass
class Process:
    """A process that runs a job."""

    number: int
    output: Path
    start: float

    def wait(self, kill_after: float | None = None, limit: float = LIMIT) -> Ended:
        """Waits for the end, or kills it after so many seconds."""
        while True:
            number, status = os.waitpid(self.number, os.WNOHANG)
            seconds = time.monotonic() - self.start
            if number:
                break
            if seconds > (limit if kill_after is None else kill_after):
                self.kill()
                limit = kill_after = float("inf")
            time.sleep(0.002)
        text = self.output.read_text(errors="replace")
        report = self.output.with_suffix(".json")
        facts = json.loads(report.read_text()) if report.exists() else {"operations": 0, "modules": []}
        report.unlink(missing_ok=True)
        _import(facts["modules"])
        return Ended(os.waitstatus_to_exitcode(status), facts["operations"], seconds, text)

    def kill(self) -> None:
        os.kill(self.number, signal.SIGKILL)


def launch(
    job: Job,
    folder: Path,
    kill_at: int | None = None,
    name: str = "output",
    beside: Path | None = None,
    **environment: object,
) -> Process:
    """Starts a process that runs a job in a folder.

    Args:
        job: what it does.
        folder: its working directory; everything that it writes must be there.
        kill_at: number of its file operation at which it is killed.
        name: of the file with what it prints.
        beside: the file is beside this folder; the working directory if left out.
        environment: variables of the environment.
    """
    beside = folder if beside is None else beside
    output = beside.with_name(f"{beside.name}.{name}.txt")
    sys.stdout.flush()
    start, number = time.monotonic(), os.fork()
    if number:
        return Process(number, output, start)
    code = 1
    try:
        handle = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        _enter(folder)
        os.environ.update({key: str(value) for key, value in environment.items()})
        operations = Operations(folder, kill_at)
        code = _exit_code(job)
        facts = {"operations": operations.count, "modules": sorted(sys.modules)}
        draft = output.with_suffix(".part")  # renamed when it is whole: the process may be killed here, too
        draft.write_text(json.dumps(facts))
        draft.replace(output.with_suffix(".json"))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _import(modules: list[str]) -> None:
    """Imports what a process has imported when it first used it, so that later ones need not do so again."""
    for name in modules:
        if name not in sys.modules and not name.startswith(("__", "tests.", "datasets_modules")):
            with contextlib.suppress(Exception):
                importlib.import_module(name)


def _enter(folder: Path) -> None:
    """Makes everything that libraries keep a part of the folder."""
    import datasets
    from huggingface_hub import constants

    os.chdir(folder)
    os.environ["ITL_HF_CACHE"] = str(folder / "cache")
    datasets.config.HF_DATASETS_CACHE = folder / "home" / "datasets"
    constants.HF_HUB_CACHE = str(folder / "home" / "hub")
    (folder / "tmp").mkdir(exist_ok=True)
    os.environ["TMPDIR"] = tempfile.tempdir = str(folder / "tmp")


def _exit_code(job: Job) -> int:
    try:
        job()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def run(job: Job, folder: Path, **options: object) -> Ended:
    """Runs a job to its end in a process of its own."""
    return launch(job, folder, **options).wait()  # type: ignore[arg-type]


def command(*words: object) -> Job:
    """Returns a job that runs `itl-hf` with these words."""

    def job() -> None:
        from itl_hf.cli.main import main

        sys.argv = ["itl-hf", *map(str, words)]
        main()

    return job


def content(folder: Path, leave_out: tuple[str, ...] = ("home", "tmp")) -> dict[str, str]:
    """Returns checksums of all files below a folder, and links, by name; folders are listed if they are empty."""
    entries = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name.split("/")[0] in leave_out:
            continue
        if path.is_symlink():
            entries[name] = f"-> {os.readlink(path)}"
        elif path.is_file():
            entries[name] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
        elif not any(path.iterdir()):
            entries[name] = "empty folder"
    return entries


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """Returns the names of what differs."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))


def answer(result: object) -> None:
    """Prints the result of a script."""
    print(json.dumps(result))
