"""Two processes on one folder at once, for a test: `python -m tests.faults.races FOLDER` prints JSON."""

from __future__ import annotations

import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tests.faults.inputs import copy, embed_pool, select, train, write_model, write_rows
from tests.faults.kills import SEED, import_everything, keep_larger, trained
from tests.faults.processes import Ended, Job, answer, command, content, differences, launch, run

STORE = ("--store", "store")
INDEX = command("index", "--store", "store", "--min_rows", 1)
#: Seconds for which readers and writers work on one selection.
_READING_SECONDS = 4.0


def together(jobs: list[Job], folder: Path, delays: list[float]) -> list[Ended]:
    """Starts jobs in one folder, each some seconds after the one before it, and waits for all."""
    processes = []
    for number, (job, delay) in enumerate(zip(jobs, delays, strict=True)):
        time.sleep(delay)
        processes.append(launch(job, folder, name=f"output{number}"))
    return [process.wait() for process in processes]


def facts(ends: list[Ended], differing: list[str]) -> dict[str, object]:
    texts = [ended.text[-1200:] if ended.code else "" for ended in ends]
    return {"codes": [ended.code for ended in ends], "texts": texts, "differing": differing[:9]}


def hurried(job: Job) -> Job:
    """Returns the job with a store that waits for half a second only until another process has created it."""

    def run_hurried() -> None:
        from itl_hf.embedding.store import feature_store

        feature_store._CREATION_SECONDS = 0.5
        job()

    return run_hurried


class Races:
    """The races, each in a copy of the same folder.

    Args:
        root: folder of all copies.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.start = write_rows(root / "start")
        self.generator = random.Random(SEED)

    def fresh(self, name: str, *before: Job) -> Path:
        folder = copy(self.start, self.root / name)
        for job in before:
            ended = run(job, folder)
            assert ended.code == 0, ended.text
        return folder

    def alone(self, job: Job, *before: Job, result: Callable[[Path], dict[str, str]] = content) -> dict[str, str]:
        """Returns the result of a job that nothing disturbs."""
        folder = self.fresh("alone", *before, job)
        expected = result(folder)
        shutil.rmtree(folder)
        return expected

    def same_job(
        self, job: Job, *before: Job, count: int = 2, result: Callable[[Path], dict[str, str]] = content
    ) -> list[dict[str, object]]:
        """Runs a job several times at once, with several delays."""
        expected, outcomes = self.alone(job, *before, result=result), []
        for delay in (0.0, self.generator.uniform(0.02, 0.3)):
            folder = self.fresh("here", *before)
            ends = together([job] * count, folder, [0.0] + [delay] * (count - 1))
            outcomes.append(facts(ends, differences(expected, result(folder))))
            shutil.rmtree(folder)
        return outcomes

    def first_embeddings(self) -> list[dict[str, object]]:
        """The second process waits longer than it would for the creation of the store."""
        return self.same_job(hurried(embed_pool(seconds=0.4)))

    def one_of_three_embeddings_is_killed(self) -> dict[str, object]:
        expected, job = self.alone(embed_pool()), embed_pool(seconds=0.2)
        folder = self.fresh("here")
        processes = [launch(job, folder, name=f"output{number}") for number in range(3)]
        deadline = time.monotonic() + 120
        while not list(folder.glob("features/shard-*")) and time.monotonic() < deadline:
            time.sleep(0.01)
        processes[0].kill()
        ends = [process.wait() for process in processes]
        outcome = facts(ends, differences(expected, content(folder)))
        shutil.rmtree(folder)
        return {**outcome, "killed": ends[0].code == -signal.SIGKILL}

    def same_selections(self) -> list[dict[str, object]]:
        return self.same_job(select(5, *STORE))

    def selections_with_the_cache(self) -> list[dict[str, object]]:
        return self.same_job(select(5))

    def other_selections(self) -> list[dict[str, object]]:
        """Five and six rows are selected into one folder, without and with `--overwrite`."""
        outcomes = []
        store = select(3, *STORE, "--output_dir", "filled")
        for words in ((), ("--overwrite",)):
            jobs = [select(number, *STORE, *words) for number in (5, 6)]
            expected = [self.alone(job, store) for job in jobs]
            folder = self.fresh("here", store)
            ends = together(jobs, folder, [0.0, 0.0])
            closest = min((differences(one, content(folder)) for one in expected), key=len)
            outcomes.append(facts(ends, closest))
            shutil.rmtree(folder)
        return outcomes

    def a_reader_while_two_write(self) -> dict[str, object]:
        folder = self.fresh("here", select(9), keep_larger, select(5))
        copy(folder / "selected", folder / "five")

        def write() -> None:
            from itl_hf import Selection

            selections = [Selection.load("larger"), Selection.load("five")]
            end = time.monotonic() + _READING_SECONDS
            while time.monotonic() < end:
                for selection in selections:
                    selection.save("selected", overwrite=True)

        def read() -> None:
            from itl_hf import Selection

            known = {len(one): one for one in map(Selection.load, ("larger", "five"))}
            number, end = 0, time.monotonic() + _READING_SECONDS
            while time.monotonic() < end:
                loaded = Selection.load("selected")
                expected = known[len(loaded)]
                assert loaded.indices.tolist() == expected.indices.tolist()
                assert loaded.dataset.to_list() == expected.dataset.to_list()
                assert loaded.gains.tolist() == expected.gains.tolist()
                number += 1
            print("readings", number)

        ends = together([read, write, write], folder, [0.0, 0.0, 0.0])
        final = content(folder / "selected") in (content(folder / "larger"), content(folder / "five"))
        shutil.rmtree(folder)
        return {**facts(ends, []), "whole": final, "readings": ends[0].text}

    def trainings(self) -> list[dict[str, object]]:
        return self.same_job(train("--examples_per_round", 6), result=trained)

    def indexes(self) -> list[dict[str, object]]:
        return self.same_job(INDEX, select(5, *STORE))

    def a_cache_that_is_cleared_meanwhile(self) -> list[dict[str, object]]:
        """A selection whose features are deleted before it reads them ends with an error, and can be started again."""
        expected, outcomes = self.alone(select(5)), []
        expected = {name: value for name, value in expected.items() if not name.startswith("cache")}
        for _ in range(3):
            folder = self.fresh("here")
            delay = self.generator.uniform(0.1, 0.6)
            ends = together([select(5), command("cache", "clear", "--yes")], folder, [0.0, delay])
            if ends[0].code:
                assert run(select(5), folder).code == 0
            actual = content(folder, leave_out=("home", "tmp", "cache"))
            outcomes.append(facts(ends, differences(expected, actual)))
            shutil.rmtree(folder)
        return outcomes


RACES = (
    "first_embeddings",
    "one_of_three_embeddings_is_killed",
    "same_selections",
    "selections_with_the_cache",
    "other_selections",
    "a_reader_while_two_write",
    "trainings",
    "indexes",
    "a_cache_that_is_cleared_meanwhile",
)


def main(root: Path, *names: str) -> None:
    torch.set_num_threads(1)
    import_everything()
    write_model(root)
    races, results = Races(root), {}
    for name in names or RACES:
        results[name] = getattr(races, name)()
        print(name, results[name], file=sys.stderr, flush=True)
    answer(results)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
