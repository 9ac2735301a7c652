"""The same picks and gains for any number of processes, uneven and empty shards too; an error that ends them all."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.search import sharded
from tests.worlds import script

#: Equal to the last bit, but for whitening, whose moments are summed process by process, and for many targets at once,
#: whose groups differ.
PER_TARGET = ("per target", "per target, quality", "per target, unusable rows")
NEARLY = ("whitened", *PER_TARGET)
MORE_CASES = (*PER_TARGET, "unusable rows")
DRAWN = [f"{objective}, {kernel}" for objective, kernel in sharded.DRAWN]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 20))
    pool = centres[rng.integers(0, 6, 400)] + rng.normal(size=(400, 20))
    pool[rng.integers(0, 400, 60)] = pool[rng.integers(0, 400, 60)]
    folder = tmp_path_factory.mktemp("sharded")
    np.save(folder / "pool.npy", pool.astype(np.float32))
    np.save(folder / "targets.npy", centres[:2].repeat(3, 0) + rng.normal(size=(6, 20)))
    return folder


@pytest.fixture(scope="module")
def done(folder):
    """The results of every process, by size and rank, and how the workers ended."""
    output = script("tests.search.sharded", folder)
    codes = json.loads(output.stdout)
    for size in sharded.SIZES:
        assert codes[str(size)] == [0] * size, output.stderr[-4000:]
    read = lambda size, rank: json.loads((folder / f"{size}-{rank}.json").read_text(encoding="utf-8"))
    return {size: [read(size, rank) for rank in range(size)] for size in sharded.SIZES}, codes["failing"]


@pytest.mark.parametrize("name", [*sharded.CASES, *MORE_CASES, *DRAWN])
def test_picks_and_gains_do_not_depend_on_the_number_of_processes(done, name):
    runs, _ = done
    alone = runs[1][0]["picks"][name]
    for size, ranks in runs.items():
        for rank, results in enumerate(ranks):
            here, where = results["picks"][name], f"process {rank} of {size}"
            assert here["indices"] == alone["indices"], where
            if name in NEARLY:
                np.testing.assert_allclose(here["gains"], alone["gains"], rtol=1e-9, err_msg=where)
            else:
                assert here == alone, where


def test_processes_that_share_the_pool_find_the_same_attainable_variance(done):
    runs, _ = done
    for ranks in runs.values():
        for results in ranks:
            for name, alone in runs[1][0]["attainable"].items():
                np.testing.assert_allclose(results["attainable"][name], alone, atol=1e-9, err_msg=name)


def test_an_error_on_one_process_ends_all_of_them_with_its_text(done, folder):
    assert done[1] == [1, 1, 1]
    texts = [(folder / f"failed-{rank}.txt").read_text(encoding="utf-8") for rank in range(3)]
    assert all("row 399 cannot be read" in text for text in texts)
    assert texts[2].startswith("ValueError")
    assert texts[0].startswith("RuntimeError: process 2 failed")
