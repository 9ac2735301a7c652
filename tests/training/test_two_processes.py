from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from itl_hf.training import SelectionSampler

REPOSITORY = Path(__file__).parents[2]


def run(directory, num_picks):
    """Trains on two processes; returns what each saw."""
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "tests.training.two_processes", str(directory), str(num_picks)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, *command], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-3000:]
    seen = [json.loads((directory / f"rank-{rank}.json").read_text()) for rank in range(2)]
    assert [one["processes"] for one in seen] == [2, 2]
    assert seen[0]["weights"] == seen[1]["weights"]
    return seen


def expected(num_picks, epoch):
    sampler = SelectionSampler([3 * pick for pick in range(num_picks)], order="shuffled", seed=1)
    sampler.set_epoch(epoch)
    rows = list(sampler)
    return [rows[start : start + 2] for start in range(0, num_picks, 2)]


def dealt(seen, epoch, steps):
    """The batches of one epoch in the order dealt: process 0, process 1, process 0, ..."""
    span = slice(epoch * steps, (epoch + 1) * steps)
    return [batch for pair in zip(seen[0]["whole"][span], seen[1]["whole"][span], strict=True) for batch in pair]


def test_two_processes_share_the_picks_and_resume_in_mid_epoch(tmp_path):
    seen = run(tmp_path, 12)
    assert seen[0]["warned"] == seen[1]["warned"] == []
    for epoch in range(2):
        assert dealt(seen, epoch, steps=3) == expected(12, epoch)
    for one in seen:
        assert one["resumed"] == one["whole"][4:]
        assert one["equal"]


def test_picks_that_two_processes_cannot_share_evenly_are_announced(tmp_path):
    seen = run(tmp_path, 14)
    assert "filled up with 2 that were trained on already" in seen[0]["warned"][0]
    assert seen[1]["warned"] == []
    for epoch in range(2):
        wanted = expected(14, epoch)
        assert dealt(seen, epoch, steps=4) == [*wanted, wanted[0]]
