"""Wrong clocks, for a test: `python -m tests.faults.clocks FOLDER` prints JSON.

The clock of a process is that of Python (`time.time`, `time.time_ns`); files that exist get their times with
`os.utime`. Native code reads the right time.
"""

from __future__ import annotations

import datetime
import os
import sys
import time
from pathlib import Path

import torch

from tests.faults.inputs import embed_pool, select, train, write_model, write_rows
from tests.faults.kills import import_everything, trained
from tests.faults.processes import Job, answer, command, differences, launch, run

STORE = ("--store", "store")
#: What is done one after the other, so that each job finds files of another century.
JOBS: tuple[Job, ...] = (
    embed_pool(),
    select(5, *STORE),
    select(6, *STORE, "--overwrite"),
    command("index", "--store", "store", "--min_rows", 1),
    command("report", "selected", "--path", "report.html"),
    command("push", "selected", "me/x", "--preview", "preview"),
    select(4, "--output_dir", "cached"),
    select(4, "--output_dir", "cached again"),
    train("--examples_per_round", 6, "--save_total_limit", 2),
    command("cache", "list", "--json"),
)
#: At which of them a first attempt is killed before its 20th file operation.
KILLED = {1, 2, 5, 8}


def seconds_of(year: int) -> float:
    """Returns the middle of a year in seconds since 1970."""
    return datetime.datetime(year, 6, 30, tzinfo=datetime.UTC).timestamp()


def in_year(year: int, job: Job) -> Job:
    """Returns the job with a clock of this year."""

    def run_in_year() -> None:
        offset = seconds_of(year) - time.time()
        right_time, right_time_ns = time.time, time.time_ns
        time.time = lambda: right_time() + offset
        time.time_ns = lambda: right_time_ns() + int(offset * 1e9)
        job()

    return run_in_year


def set_times(folder: Path, year: int) -> None:
    """Sets the times of all files and folders to this year."""
    for path in [*folder.rglob("*"), folder]:
        os.utime(path, (seconds_of(year),) * 2, follow_symlinks=False)


def with_years(root: Path, years: tuple[int, ...]) -> dict[str, object]:
    """Runs the jobs with the clocks of these years in turn."""
    folder = write_rows(root / "-".join(map(str, years or ("now",))))
    faults, text = [], ""
    for number, job in enumerate(JOBS):
        if years:
            year = years[number % len(years)]
            job = in_year(year, job)
            if number in KILLED:
                launch(job, folder, kill_at=20).wait()
                set_times(folder, years[(number + 1) % len(years)])
        ended = run(job, folder)
        text = ended.text
        if ended.code:
            faults.append({"job": number, "code": ended.code, "text": ended.text[-1500:]})
        if years:
            set_times(folder, year)
    cleared = {}
    for year in (1999, 2040):  # in 1999 nothing has been used for 30 days
        ended = run(in_year(year, command("cache", "clear", "--yes", "--older_than", 30)), folder)
        cleared[str(year)] = [ended.code, len(list((folder / "cache").iterdir()))]
    entries = {name: value for name, value in trained(folder).items() if not name.startswith("cache/")}
    return {"faults": faults, "content": entries, "listed": text[-3000:], "cleared": cleared}


def main(root: Path) -> None:
    torch.set_num_threads(1)
    import_everything()
    write_model(root)
    cases = {"now": (), "1999": (1999,), "2040": (2040,), "back": (2040, 1999), "forth": (1999, 2040)}
    results = {name: with_years(root, years) for name, years in cases.items()}
    expected = results["now"]["content"]
    for result in results.values():
        result["differing"] = differences(expected, result.pop("content"))[:9]  # type: ignore[arg-type]
    print(results, file=sys.stderr)
    answer(results)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
