"""Run by test_trl_trainers.py: GRPO on two processes, which writes the prompts of every batch of each process."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
import trl
from datasets import Dataset

from itl_hf.training import attach
from tests.training import tiny
from tests.worlds import world

PICKS = [11, 4, 15, 9, 6, 5, 1, 2]


def main(directory):
    tiny.model().merge_and_unload().save_pretrained(directory / "model")
    tiny.tokenizer().save_pretrained(directory / "model")
    changes = {"num_generations": 2, "max_completion_length": 3, "gradient_accumulation_steps": 2, "bf16": False}

    def work(rank):
        trainer = trl.GRPOTrainer(
            model=str(directory / "model"),
            reward_funcs=lambda completions, **columns: [float(len(one)) for one in completions],
            args=tiny.arguments(directory / "out", trl.GRPOConfig, gradient_checkpointing=False, **changes),
            train_dataset=Dataset.from_dict({"prompt": [f"row{row} the a of" for row in range(20)]}),
            processing_class=tiny.tokenizer(),
        )
        attach(trainer, PICKS)
        batches, collate = [], trainer.data_collator

        def recorded(features):
            batches.append([int(feature["prompt"].split()[0].removeprefix("row")) for feature in features])
            return collate(features)

        trainer.data_collator = recorded
        trainer.train()
        (directory / f"rank-{rank}.json").write_text(json.dumps(batches))

    assert world(2, work) == [0, 0]


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]))
