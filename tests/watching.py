"""Two processes, one of which fails or falls silent, for test_watching.py: prints how both ended as JSON."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import accelerate  # noqa: F401  # imported before the fork, once for all
import numpy as np
import torch

from itl_hf import Selector, distributed, failure_detection, heartbeat, select_rows
from itl_hf.cli.group import call_on_each, join_group
from itl_hf.embedding.store.shared_folder import require_shared
from itl_hf.failure_detection import pause_watch, watch
from itl_hf.processes import Processes, call_on_first
from itl_hf.selection.result.transfer import load_from_first
from tests.selection.result.test_folder import Lengths
from tests.worlds import world

RNG = np.random.default_rng(0)
POOL, TARGETS = RNG.normal(size=(60, 8)), RNG.normal(size=(4, 8))


def meet():
    distributed.gather_rows(torch.zeros(1, 1))


class Silence:
    """A key-value store behind a cut link: it never answers."""

    def add(self, key, number):
        time.sleep(60)


def fail_alone(rank, folder):
    """Process 1 fails while process 0 waits for it."""
    with watch():
        if rank == 1:
            raise FileNotFoundError("pool.jsonl: no such file")
        meet()


def read_alone(rank, folder):
    """A command whose file is missing on one machine only."""
    os.environ["LOCAL_WORLD_SIZE"] = "1"  # as on two machines
    path = folder / f"only-on-{rank}"
    if rank == 0:
        path.touch()
    with join_group():
        call_on_each(lambda: path.read_text() if rank == 0 else (folder / "missing").read_text())


def exit_alone(rank, folder):
    """A mistake in the options on one process: the parser ends it."""
    with join_group():
        if rank == 1:
            sys.exit(2)
        meet()


def bad_pool(rank, folder):
    """Process 1 passes rows that `select_rows` refuses."""
    select_rows(POOL if rank == 0 else POOL[:, :0], TARGETS, 5)


def fall_silent(rank, folder):
    """Process 1 is not heard of any longer, as behind a cut link, while process 0 waits for it."""
    with watch():
        meet()
        if rank == 1:
            failure_detection._heartbeat._store = Silence()
            time.sleep(10)
        meet()


def silent_in_training(rank, folder):
    """Silence is allowed where it is said to be."""
    with watch(), pause_watch():
        if rank == 1:
            failure_detection._heartbeat._store = Silence()
            time.sleep(4)
        meet()


def killed(rank, folder):
    with watch():
        meet()
        if rank == 1:
            os.kill(os.getpid(), 9)
        meet()


def decided_on_first(rank, folder):
    value = call_on_first(lambda: rank + 7)
    assert value == 7


def refused_on_first(rank, folder):
    def refuse():
        raise FileExistsError("--output_dir out holds a selection already")

    call_on_first(refuse)


def not_shared(rank, folder):
    own = folder / f"disk-{rank}"
    own.mkdir()
    with Processes() as processes:
        require_shared(own, processes)


def is_shared(rank, folder):
    with Processes() as processes:
        require_shared(folder, processes)
    assert not list(folder.glob("probe-*"))


def resumed_from_first(rank, folder):
    """Each machine has a disk of its own, and the selection is on the first one only."""
    own = folder / f"machine-{rank}"
    words = ("apple river", "banana stone", "cherry cloud", "quince window", "garden fig")
    selection = Selector(Lengths(), store=False).select(
        [{"prompt": word} for word in words], [{"prompt": "an apple"}], 2
    )
    call_on_first(lambda: selection.save(own))
    assert rank == 0 or not own.exists()
    loaded = load_from_first(own)
    assert loaded.indices.tolist() == selection.indices.tolist()
    assert loaded.dataset.to_list() == selection.dataset.to_list()


def same_picks(rank, folder):
    """Contexts one after the other, and within each other."""
    for _ in range(2):
        with watch():
            picks = select_rows(POOL, TARGETS, 5).indices.tolist()
    (folder / f"{rank}.json").write_text(json.dumps(picks))


CASES = (
    *(fail_alone, read_alone, exit_alone, bad_pool, fall_silent, silent_in_training, killed),
    *(decided_on_first, refused_on_first, not_shared, is_shared, resumed_from_first, same_picks),
)


def main(folder):
    heartbeat.GRACE_SECONDS = 1.0
    os.environ[heartbeat.LIMIT_VARIABLE] = "2"
    ends = {}
    for case in CASES:
        place = folder / case.__name__
        place.mkdir()

        def work(rank, case=case, place=place):
            sys.stderr = (place / f"{rank}.txt").open("w", buffering=1)
            try:
                case(rank, place)
            except BaseException as error:
                print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
                raise

        start = time.monotonic()
        codes = world(2, work)
        texts = [(place / f"{rank}.txt").read_text() for rank in (0, 1)]
        ends[case.__name__] = {"codes": codes, "texts": texts, "seconds": time.monotonic() - start}
    print(json.dumps(ends))


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
