"""A training loop of your own with accelerate and `SelectionSampler`, an ordinary sampler of PyTorch.

    accelerate launch accelerate_loop.py pool.jsonl targets.jsonl      # rows with `prompt` and `completion`; `prompt`

There is no trainer to `attach` to. The sampler suits where the dataset stays the pool, as here; build the data loader
on `selection.dataset` where it is to hold the picks alone.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
from accelerate import Accelerator
from torch.utils.data import DataLoader
from transformers import AutoModelForCausalLM, AutoTokenizer

from itl_hf import HiddenStates, SelectionSampler, Selector, load_rows


def main(
    pool_file: str,
    targets_file: str,
    model_name: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    num_examples: int = 1_000,
    num_epochs: int = 2,
    output_dir: str = "loop",
) -> list[float]:
    """Selects, trains all weights on the picks, and returns the loss of every step."""
    accelerator, pool = Accelerator(), load_rows(pool_file)
    selection = Selector(HiddenStates(model_name)).select(pool, load_rows(targets_file), num_examples)

    model, tokenizer = AutoModelForCausalLM.from_pretrained(model_name), AutoTokenizer.from_pretrained(model_name)

    def collate(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = tokenizer([row["prompt"] + row["completion"] for row in rows], padding=True, return_tensors="pt")
        return {**batch, "labels": batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)}

    sampler = SelectionSampler(selection, order="shuffled", seed=0)
    loader: Any = DataLoader(pool, sampler=sampler, batch_size=8, collate_fn=collate)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    losses = []
    for epoch in range(num_epochs):
        sampler.set_epoch(epoch)  # another order in every epoch
        for batch in loader:
            loss = model(**batch).loss
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss))
    accelerator.unwrap_model(model).save_pretrained(output_dir)
    return losses


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
