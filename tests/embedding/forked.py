"""Embedding on several processes, for tests: `python -m tests.embedding.forked SCENARIO FOLDER` prints JSON.

The workers are forks, see `tests/worlds.py`.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import accelerate  # noqa: F401  # imported before the fork, once for all
import datasets
import numpy as np
import torch

from itl_hf import distributed
from itl_hf.embedding import FeatureStore, embed
from itl_hf.embedding.store.shards import read_shard
from tests.embedding.fakes import HashEmbedder, Preparing
from tests.worlds import LIMIT, launch, wait, world


def outcomes(size, call, folder):
    """Runs `call(rank) -> (features, embedder)` on `size` workers and returns the outcome of each."""
    folder.mkdir(parents=True, exist_ok=True)

    def worker(rank):
        try:
            features, embedder = call(rank)
            outcome = {
                "rows": embedder.rows_embedded,
                "checked": embedder.rows_checked,
                "shape": list(features.shape),
                "features": hashlib.sha256(np.ascontiguousarray(np.asarray(features))).hexdigest(),
                "world": distributed.world_size(),
            }
        except BaseException as error:
            outcome = {"error": f"{type(error).__name__}: {error}"}
        (folder / f"{rank}.json").write_text(json.dumps(outcome))

    start = time.monotonic()
    codes = world(size, worker)
    results = []
    for rank, code in enumerate(codes):
        file = folder / f"{rank}.json"
        results.append({"code": code, **(json.loads(file.read_text()) if file.exists() else {})})
    return {"seconds": time.monotonic() - start, "workers": results}


def texts(rows, distinct=None):
    return datasets.Dataset.from_dict({"text": [f"row {i * 7 % (distinct or rows)}" for i in range(rows)]})


def stream(dataset):
    def rows():
        yield from dataset

    return datasets.IterableDataset.from_generator(rows)


def sharing(folder):
    """The same work on 1, 2 and 3 processes, in a directory, in memory, and from a stream."""
    dataset = texts(101, distinct=83)
    results = {}
    for size in (1, 2, 3):
        kinds = {
            "store": lambda rank, size=size: (dataset, folder / f"store-{size}"),
            "memory": lambda rank: (dataset, None),
            "stream": lambda rank, size=size: (stream(dataset), folder / f"stream-{size}"),
        }
        for name, arguments in kinds.items():

            def call(rank, arguments=arguments):
                embedder = Preparing()
                rows, directory = arguments(rank)
                return embed(rows, embedder, directory, shard_rows=8), embedder

            results[f"{name}-{size}"] = outcomes(size, call, folder / "out" / f"{name}-{size}")
    return results


def trouble(folder):
    """Two processes, one of which fails in different ways."""

    class Unlucky(HashEmbedder):
        """Calls `fate` on process `victim` in its third shard."""

        def __init__(self, fate, victim=1, **settings):
            super().__init__(seconds=0.05, **settings)
            self.fate, self.victim = fate, victim

        def embed(self, rows, *, first_row=0, on_rows=None):
            if first_row >= 20 and distributed.rank() == self.victim and self.fate is not None:
                self.fate()
            return super().embed(rows, first_row=first_row, on_rows=on_rows)

    def fail():
        raise ValueError("the model broke")

    def interrupt():
        raise KeyboardInterrupt

    def die():
        os.kill(os.getpid(), signal.SIGKILL)

    results = {}
    for name, fate in {"fails": fail, "interrupted": interrupt, "dies": die, "recovered": None}.items():
        directory = folder / ("fails" if name == "recovered" else name)

        def call(rank, fate=fate, directory=directory):
            embedder = Unlucky(fate)
            return embed(texts(100), embedder, directory, shard_rows=4), embedder

        results[name] = outcomes(2, call, folder / "out" / name)

    def first_dies(rank):
        embedder = Unlucky(die, victim=0)
        return embed(texts(100), embedder, folder / "first", shard_rows=4), embedder

    def other_model(rank):
        embedder = HashEmbedder(layer=rank)
        return embed(texts(100), embedder, folder / "other"), embedder

    def other_rows(rank):
        embedder = HashEmbedder()
        return embed(texts(100 + rank), embedder), embedder

    def bad_row(rank):
        embedder = HashEmbedder()
        embedder.check = lambda rows, first: fail() if rank == 1 else None
        return embed(texts(100), embedder, folder / "bad"), embedder

    def not_shared(rank):
        embedder = HashEmbedder()
        directory = folder / f"machine-{rank}"
        if rank == 1:  # a directory of its own, with the same manifest
            FeatureStore(directory, {"embedder": "hash", "rows_hash": _hash()}, rows=100, dimension=8, shard_rows=4)
        return embed(texts(100), embedder, directory, shard_rows=4), embedder

    for call in (first_dies, other_model, other_rows, bad_row, not_shared):
        results[call.__name__] = outcomes(2, call, folder / "out" / call.__name__)
    return results


def _hash():
    from itl_hf.embedding import rows_fingerprint

    return rows_fingerprint(texts(100))


def kills(folder, from_stream=False, min_kills=20, seed=0):
    """Kills workers at random moments, at least `min_kills` times, then lets them finish."""
    rng = random.Random(seed)
    rows, directory, log = texts(800, distinct=640), folder / "store", folder / "log"
    dataset = stream(rows) if from_stream else rows
    log.touch()

    class Logging(Preparing):
        def embed_prepared(self, prepared_rows, *, on_rows=None):
            with log.open("a") as file:
                file.write(f"{prepared_rows[1]}\n")
            return super().embed_prepared(prepared_rows, on_rows=on_rows)

    def embedding(seconds, into):
        def call(_rank):
            embed(dataset, Logging(seconds=seconds), into, shard_rows=4)

        return call

    def shards():
        return sorted(directory.glob("shard-*.arrow"))

    num_killed, rounds, lost_shards = 0, [], []
    while num_killed < min_kills and len(rounds) < 3 * min_kills:
        size, shards_before, lines_before = rng.choice([1, 2]), len(shards()), len(log.read_text().splitlines())
        children = launch(size, embedding(0.05, directory))
        if len(rounds) % 2:  # kill after the first shard, however slow the machine is; else during the start
            deadline = time.monotonic() + LIMIT
            while len(shards()) == shards_before and time.monotonic() < deadline:
                time.sleep(0.005)
        time.sleep(rng.uniform(0.0, 0.3))
        for child in rng.sample(children, size):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        codes = wait(children)
        num_killed += codes.count(-signal.SIGKILL) > 0
        for path in shards():
            read_shard(path)  # raises for one that is not whole
        shards_started = len(log.read_text().splitlines()) - lines_before
        lost_shards.append(shards_started - (len(shards()) - shards_before) - size)
        rounds.append((size, len(shards())))
    missing_files = -(-(800 if from_stream else 640) // 4) - len(shards())
    lines_before = len(log.read_text().splitlines())
    codes = world(2, embedding(0, directory))
    again = len(log.read_text().splitlines()) - lines_before
    undisturbed = folder / "undisturbed"
    codes += world(1, embedding(0, undisturbed))
    names = sorted(path.name for path in undisturbed.iterdir())
    return {
        "kills": num_killed,
        "sizes": sorted({size for size, _ in rounds}),
        "rounds": rounds,
        "most_lost_beyond_one_each": max(lost_shards),
        "missing_at_last": missing_files,
        "embedded_at_last": again,
        "codes": codes,
        "same_names": sorted(path.name for path in directory.iterdir()) == names,
        "same_bytes": all((directory / name).read_bytes() == (undisturbed / name).read_bytes() for name in names),
        "rows": len(FeatureStore.open(directory).features()),
    }


SCENARIOS = {
    "sharing": sharing,
    "trouble": trouble,
    "kills": kills,
    "kills-streamed": lambda folder: kills(folder, from_stream=True),
}

if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(SCENARIOS[sys.argv[1]](Path(sys.argv[2]))))
