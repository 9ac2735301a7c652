"""Preference tuning with TRL's `DPOTrainer` on the pairs that teach most about your prompts.

    python dpo.py preferences.jsonl prompts.jsonl      # rows with `chosen`, `rejected` and, if you like, `prompt`

Pairs are read by their chosen answer; without a `prompt` it is where both answers begin alike. Prefer `attach` where
the same preferences are trained on with several selections: they are tokenized once. `train_dataset=selection.dataset`
suits here: only the picks are tokenized, and their log-probabilities under the reference model computed
(`precompute_ref_log_probs=True`).
"""

from __future__ import annotations

import sys
from typing import Any

from peft import LoraConfig
from trl import DPOConfig, DPOTrainer

from itl_hf import HiddenStates, Selector, load_rows


def main(
    pool_file: str,
    targets_file: str,
    model: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    num_examples: int = 2_000,
    output_dir: str = "dpo",
    **changes: Any,
) -> DPOTrainer:
    """Selects by the model's hidden states, and trains an adapter; `changes` are arguments of `DPOConfig`."""
    selector = Selector(HiddenStates(model))
    selection = selector.select(load_rows(pool_file), load_rows(targets_file), num_examples)
    trainer = DPOTrainer(
        model,
        args=DPOConfig(
            output_dir,
            per_device_train_batch_size=4,
            learning_rate=5e-5,
            precompute_ref_log_probs=True,
            report_to="none",
            **changes,
        ),
        train_dataset=selection.dataset,
        peft_config=LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"),
    )
    trainer.train()
    trainer.save_model(output_dir)
    return trainer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
