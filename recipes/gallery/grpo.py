"""Reinforcement learning with TRL's `GRPOTrainer` on the prompts that teach most about your task.

    python grpo.py problems.jsonl my_problems.jsonl      # rows with `prompt` and `answer`; rows with `prompt`

`attach` suits here: the trainer repeats each prompt for its group of answers, and the picks are repeated in the same
way; with a `Selector` in place of the selection, every epoch picks new prompts for the model as it is by then. Prefer
`train_dataset=selection.dataset` where the order does not matter: the trainer then shuffles the picks itself.
"""

from __future__ import annotations

import sys
from typing import Any

from peft import LoraConfig
from trl import GRPOConfig, GRPOTrainer

from itl_hf import HiddenStates, Selector, attach, load_rows


def has_answer(completions: list[Any], answer: list[str], **columns: Any) -> list[float]:
    """Rewards completions that end with the right answer."""
    texts = [one if isinstance(one, str) else one[-1]["content"] for one in completions]
    return [float(text.strip().endswith(right)) for text, right in zip(texts, answer, strict=True)]


def main(
    pool_file: str,
    targets_file: str,
    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    num_examples: int = 512,
    output_dir: str = "grpo",
    **changes: Any,
) -> GRPOTrainer:
    """Selects prompts by the model's hidden states, and trains an adapter; `changes` are arguments of `GRPOConfig`."""
    pool = load_rows(pool_file)
    selector = Selector(HiddenStates(model, span="prompt"))
    selection = selector.select(pool, load_rows(targets_file), num_examples)
    trainer = GRPOTrainer(
        model,
        reward_funcs=has_answer,
        args=GRPOConfig(output_dir, report_to="none", **changes),
        train_dataset=pool,
        peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"),
    )
    attach(trainer, selection, order="shuffled").train()
    trainer.save_model(output_dir)
    return trainer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
