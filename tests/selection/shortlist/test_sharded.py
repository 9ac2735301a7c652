"""Equal shortlists and picks for any number of processes, and every row is embedded by one of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.selection.shortlist import sharded
from tests.worlds import script


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sharded")
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 20))
    pool = centres[rng.integers(0, 6, 400)] + rng.normal(size=(400, 20))
    pool[rng.integers(0, 400, 80)] = pool[rng.integers(0, 400, 80)]
    np.save(folder / "pool.npy", pool.astype(np.float32))
    np.save(folder / "targets.npy", centres[:2].repeat(3, 0) + rng.normal(size=(6, 20)))
    output = script("tests.selection.shortlist.sharded", folder)
    codes = json.loads(output.stdout)
    for size in sharded.SIZES:
        assert codes[str(size)] == [0] * size, output.stderr[-4000:]
    read = lambda size, rank: json.loads((folder / f"{size}-{rank}.json").read_text(encoding="utf-8"))
    return {size: [read(size, rank) for rank in range(size)] for size in sharded.SIZES}


def test_picks_do_not_depend_on_the_number_of_processes(runs):
    alone = runs[1][0]
    for ranks in runs.values():
        for results in ranks:
            assert results["one stage"] == alone["one stage"]
            assert results["two stages"] == alone["two stages"]
    assert alone["one stage"]["auto"][1]["near_duplicates"] > 0
    assert alone["one stage"]["groups"][1]["size"] > 16


def test_processes_share_the_embedding_of_the_list(runs):
    for ranks in runs.values():
        prompts = [prompt for results in ranks for prompt in results["embedded"][0]]
        assert len(prompts) == len(set(prompts)) == 40 + 2
        assert sum(results["embedded"][1] for results in ranks) == 150 + 2
