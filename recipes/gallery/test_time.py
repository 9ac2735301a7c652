"""Test-time fine-tuning: for every prompt a few gradient steps on rows of its own, an answer, and the model as before.

    python test_time.py pool.jsonl prompts.jsonl      # rows with `prompt` and `completion`; rows with `prompt`

Neither `attach` nor `selection.dataset` is needed: `select_rows_per_target` picks for a thousand prompts at once, and
each gets a short loop. The recipe `recipes/test_time` does the same with measurements, and resumes.
"""

from __future__ import annotations

import copy
import sys

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoTokenizer

from itl_hf import HiddenStates, embed, load_rows, select_rows_per_target


def main(
    pool_file: str,
    prompts_file: str,
    model_name: str = "HuggingFaceTB/SmolLM2-135M-Instruct",
    num_examples: int = 20,
    learning_rate: float = 5e-4,
) -> list[str]:
    """Returns an answer to each prompt."""
    pool, prompts = load_rows(pool_file), load_rows(prompts_file)
    tokenizer, base = AutoTokenizer.from_pretrained(model_name), AutoModelForCausalLM.from_pretrained(model_name)
    embedder = HiddenStates(base, tokenizer=tokenizer, span="prompt")
    picks = select_rows_per_target(embed(pool, embedder), embed(prompts, embedder), num_examples).indices  # (m, n)

    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear"))
    first_adapter = copy.deepcopy(get_peft_model_state_dict(model))
    answers = []
    for prompt, rows in zip(prompts["prompt"], picks.tolist(), strict=True):
        set_peft_model_state_dict(model, first_adapter)
        optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=learning_rate)
        model.train()
        for row in rows:  # in the order picked
            tokens = tokenizer(pool[row]["prompt"] + pool[row]["completion"], return_tensors="pt").to(base.device)
            model(**tokens, labels=tokens["input_ids"]).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
        tokens = tokenizer(prompt, return_tensors="pt").to(base.device)
        output = model.generate(**tokens, max_new_tokens=32, do_sample=False)[0, tokens["input_ids"].shape[1] :]
        answers.append(str(tokenizer.decode(output, skip_special_tokens=True)))
        print(f"{prompt!r} -> {answers[-1]!r}")
    return answers


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
