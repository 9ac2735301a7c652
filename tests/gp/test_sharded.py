"""The same picks and gains for any number of processes, uneven and empty shards too; an error that ends them all."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

SCRIPT = os.path.join(os.path.dirname(__file__), "sharded.py")
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(6, 20))
    pool = centres[rng.integers(0, 6, 1000)] + rng.normal(size=(1000, 20))
    pool[rng.integers(0, 1000, 150)] = pool[rng.integers(0, 1000, 150)]
    folder = tmp_path_factory.mktemp("sharded")
    np.save(folder / "pool.npy", pool.astype(np.float32))
    np.save(folder / "targets.npy", centres[:2].repeat(3, 0) + rng.normal(size=(6, 20)))
    return folder


def torchrun(processes, *arguments):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", SCRIPT]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ROOT}
    return subprocess.run(
        [*command, *map(str, arguments)], capture_output=True, text=True, env=environment, timeout=240, check=False
    )


def picks_of(folder, processes, block_rows):
    result = torchrun(processes, folder, block_rows)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads((folder / f"picks-{processes}.json").read_text(encoding="utf-8"))


def test_picks_and_gains_do_not_depend_on_the_number_of_processes(folder):
    # 1,000 rows in blocks of 300 are four blocks: five processes leave one without any.
    runs = {processes: picks_of(folder, processes, 300) for processes in (1, 2, 3, 5)}
    for processes, run in runs.items():
        for name, result in run.items():
            assert result["indices"] == runs[1][name]["indices"], (name, processes)
            # To the last bit, but for whitening, whose moments are summed process by process, and for many targets at
            # once, whose groups differ.
            if name in ("whitened", "per target"):
                np.testing.assert_allclose(result["gains"], runs[1][name]["gains"], rtol=1e-9)
            else:
                assert result["gains"] == runs[1][name]["gains"], (name, processes)


def test_an_error_on_one_process_ends_all_of_them_with_its_text(folder):
    result = torchrun(3, folder, "fail")
    assert result.returncode != 0
    assert "row 999 of `pool` holds NaN" in result.stderr
