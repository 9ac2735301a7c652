"""Run by test_two_processes.py: trains every scenario without a break and resumed in mid-epoch, on two processes."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.distributed as dist
import trl

from itl_hf import Selector
from itl_hf.training import attach, picks_of
from tests.training import tiny
from tests.worlds import world

CHECKPOINT_STEP = 4  # with 12 picks, 2 processes and batches of 2: the first of three steps of epoch 1


def arguments(**changes):
    return {"num_train_epochs": 2, "save_strategy": "steps", "save_steps": CHECKPOINT_STEP, **changes}


def plain(directory, **changes):
    return tiny.trainer(
        directory, dataset=tiny.pool(text=True), **arguments(ddp_find_unused_parameters=False, **changes)
    )


def sft(directory):
    settings = arguments(bf16=True, gradient_checkpointing=True, max_length=8, ddp_find_unused_parameters=False)
    rows = {"prompt": tiny.pool(text=True)["prompt"], "completion": [" to the"] * 40}
    return tiny.recording(trl.SFTTrainer)(
        model=tiny.model(),
        args=tiny.arguments(directory, trl.SFTConfig, **settings),
        train_dataset=tiny.Dataset.from_dict(rows),
        processing_class=tiny.tokenizer(),
    )


def with_picks(trainer, num_picks, **options):
    return attach(trainer, SimpleNamespace(indices=torch.arange(num_picks) * 3, pool_size=40), **options)


def in_rounds(trainer, store=None):
    selector = Selector(tiny.embedder(trainer.model), store=store)
    return attach(trainer, selector, targets=tiny.TARGETS, examples_per_round=12, order="shuffled")


SCENARIOS = {
    "even": lambda directory: with_picks(plain(directory), 12, order="shuffled"),
    "uneven": lambda directory: with_picks(plain(directory), 14, order="shuffled"),
    "dropped": lambda directory: with_picks(plain(directory), 14, order="shuffled", remainder="drop"),
    "sft": lambda directory: with_picks(sft(directory), 12, order="shuffled"),
    "rounds": lambda directory: in_rounds(plain(directory)),
    "sft rounds": lambda directory: in_rounds(sft(directory)),
    "stored rounds": lambda directory: in_rounds(plain(directory), directory / "store"),
}


def build_trainer(name, directory):
    with warnings.catch_warnings(record=True) as warning_list:
        warnings.simplefilter("always")
        trainer = SCENARIOS[name](directory)
    return trainer, [str(warning.message) for warning in warning_list if "picks" in str(warning.message)]


def run(name, directory):
    whole, warnings_raised = build_trainer(name, directory)
    whole.train()
    resumed, _ = build_trainer(name, directory)
    resumed.train(resume_from_checkpoint=str(directory / f"checkpoint-{CHECKPOINT_STEP}"))
    left, right = tiny.adapter(whole), tiny.adapter(resumed)
    return {
        "warned": warnings_raised,
        "whole": whole.batches,
        "resumed": resumed.batches,
        "picks": [picks.tolist() for picks in picks_of(whole)],
        "equal": all(torch.equal(left[weight], right[weight]) for weight in left),
        "weights": sum(weight.double().abs().sum().item() for weight in left.values()),
    }


def main(directory):
    def work(rank):
        outcome = {name: run(name, directory / name.replace(" ", "-")) for name in SCENARIOS}
        outcome["processes"] = dist.get_world_size()
        (directory / f"rank-{rank}.json").write_text(json.dumps(outcome))

    assert world(2, work) == [0, 0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
