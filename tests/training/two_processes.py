"""Run by torchrun from test_two_processes.py: an uninterrupted run and one resumed in mid-epoch, on each process.

torchrun --nproc_per_node 2 -m tests.training.two_processes DIRECTORY NUM_PICKS
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist

from itl_hf.training import attach
from tests.training import tiny

SAVED = 4  # with 12 picks, 2 processes and batches of 2: the first of three steps of epoch 1


def attached(directory, num_picks):
    trainer = tiny.trainer(
        directory, num_train_epochs=2, save_strategy="steps", save_steps=SAVED, ddp_find_unused_parameters=False
    )
    picks = SimpleNamespace(indices=torch.arange(num_picks) * 3, pool_size=40)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        attach(trainer, picks, order="shuffled")
    return trainer, [str(warning.message) for warning in caught if "picks" in str(warning.message)]


def main(directory, num_picks):
    torch.set_num_threads(1)
    whole, warned = attached(directory / "run", num_picks)
    whole.train()
    resumed, _ = attached(directory / "run", num_picks)
    resumed.train(resume_from_checkpoint=str(directory / "run" / f"checkpoint-{SAVED}"))

    left, right = tiny.adapter(whole), tiny.adapter(resumed)
    outcome = {
        "processes": dist.get_world_size(),
        "warned": warned,
        "whole": whole.batches,
        "resumed": resumed.batches,
        "equal": all(torch.equal(left[name], right[name]) for name in left),
        "weights": sum(weight.double().abs().sum().item() for weight in left.values()),
    }
    (directory / f"rank-{dist.get_rank()}.json").write_text(json.dumps(outcome))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
