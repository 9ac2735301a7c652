"""Test-time fine-tuning: for every prompt, select rows, train an adapter on them for a few steps, and answer.

    python -m recipes.test_time
    python -m recipes.test_time --num_prompts 64 --num_examples 20 --learning_rate 2e-4

Copied out of the repository, the folder runs as `python -m test_time`. For each prompt, the recipe picks 50 rows by
SIFT (VTL with one target), trains on them once in the order picked, measures the loss of the right answer before and
after, generates a greedy answer, and resets the adapter to its first weights. The prompts' right answers are used only
to measure the loss. The result of each prompt is saved as soon as it is there: started again with the same settings,
the recipe continues with the next prompt. It runs in one process and needs a model that fits on one device.

Source: Huebotter, Bongni, Hakimi, Krause, "Efficiently Learning at Test-Time: Active Fine-Tuning of LLMs" (ICLR 2025).
"""

from __future__ import annotations

import gc
import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
from datasets import Dataset
from tqdm.auto import tqdm
from trl import TrlParser

from itl_hf import HiddenStates, embed, load_rows, select_rows_per_target
from itl_hf.embedding import feature_directory, rows_fingerprint
from itl_hf.text import plain_text

from .results import Results
from .tuner import TestTimeTuner


@dataclass
class Settings:
    """The options of the recipe, under TRL's names where TRL has the same option.

    The default model and data are made by `python -m recipes.offline_files`.
    """

    model_name_or_path: str = field(
        default="outputs/models/SmolLM2-135M-Instruct", metadata={"help": "Model to fine-tune: a Hub id or a folder."}
    )
    dataset_name: str = field(
        default="outputs/offline/pool-768.jsonl", metadata={"help": "Rows to pick from and train on, with completions."}
    )
    prompts: str = field(
        default="outputs/offline/held_out.jsonl",
        metadata={"help": "Rows to answer, with completions to measure the loss on."},
    )
    num_prompts: int = field(default=8, metadata={"help": "How many of the prompts, evenly spaced."})
    num_examples: int = field(default=50, metadata={"help": "Picks for each prompt."})
    batch_size: int = field(default=5, metadata={"help": "Rows in a gradient step."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Learning rate of AdamW for the adapter."})
    lora_r: int = field(default=8, metadata={"help": "Rank of the adapter."})
    max_length: int = field(default=512, metadata={"help": "Longer rows are cut to this many tokens."})
    max_new_tokens: int = field(default=48, metadata={"help": "Largest number of tokens of an answer."})
    layer: float = field(default=0.75, metadata={"help": "Layer of the features, as a share of the depth."})
    store: str = field(default="outputs/features", metadata={"help": "Folder that keeps features."})
    output_file: str = field(default="outputs/test_time/results.json", metadata={"help": "JSON file for the results."})
    seed: int = field(default=0, metadata={"help": "Seed of the adapter."})

    def __post_init__(self) -> None:
        for name in ("num_prompts", "num_examples", "batch_size", "lora_r", "max_length", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def identity(self) -> dict[str, Any]:
        """Returns the settings that a result depends on, in addition to the rows."""
        return {name: value for name, value in asdict(self).items() if name not in ("store", "output_file")}


def run(settings: Settings) -> list[dict[str, Any]]:
    """Selects rows for all prompts at once, then trains and measures for one prompt after the other.

    Args:
        settings (`Settings`):
            The options.

    Returns:
        `list[dict]`: For each prompt its text, the right answer, `loss_before`, `loss_after`, the model's answer, and
            the picks.

    Raises:
        `ValueError`: If there are fewer prompts than `num_prompts`, or a prompt has no completion to measure the loss
            on.
    """
    pool, prompts = load_rows(settings.dataset_name), _prompts(settings)
    picks_per_prompt = _picks(settings, pool, prompts)
    results = Results(Path(settings.output_file), settings.identity())
    tuner: TestTimeTuner | None = None
    results_per_prompt = []
    for prompt, picks in zip(tqdm(prompts.to_list(), desc="prompts", unit="prompt"), picks_per_prompt, strict=True):
        rows = pool.select(picks).to_list()
        step = hashlib.sha256(json.dumps([prompt, rows], sort_keys=True, default=str).encode()).hexdigest()[:16]
        if step not in results:
            tuner = tuner or _tuner(settings)
            question, right_answer = plain_text(prompt)
            outcome = asdict(tuner.run(prompt, rows))
            results.save(step, {"prompt": question, "right_answer": right_answer, **outcome, "picks": picks.tolist()})
        result = results[step]
        results_per_prompt.append(result)
        tqdm.write(f"{result['loss_before']:.3f} -> {result['loss_after']:.3f}  {result['prompt'][:80]!r}")
    before, after = (fmean(result[name] for result in results_per_prompt) for name in ("loss_before", "loss_after"))
    num_better = sum(result["loss_after"] < result["loss_before"] for result in results_per_prompt)
    print(
        f"loss of the right answer, nats per token, mean of {len(results_per_prompt)} prompts: {before:.3f} before, "
        f"{after:.3f} after; lower for {num_better}\nsaved to {settings.output_file}"
    )
    return results_per_prompt


def _prompts(settings: Settings) -> Dataset:
    prompts = load_rows(settings.prompts)
    if settings.num_prompts > len(prompts):
        raise ValueError(f"--num_prompts {settings.num_prompts}: {settings.prompts} has only {len(prompts)}")
    row_numbers = np.linspace(0, len(prompts) - 1, settings.num_prompts).round().astype(np.int64)
    spaced_prompts = prompts.select(row_numbers)
    for number, prompt in zip(row_numbers.tolist(), spaced_prompts.to_list(), strict=True):
        if not plain_text(prompt)[1]:
            raise ValueError(f"{settings.prompts}, row {number}: no completion to measure the loss on")
    return spaced_prompts


def _picks(settings: Settings, pool: Dataset, prompts: Dataset) -> np.ndarray:
    """Returns row numbers of the pool for each prompt, (m, n), best first. The embedder's model is freed at the end."""
    embedder = HiddenStates(settings.model_name_or_path, layer=settings.layer)
    folder = feature_directory(settings.store, embedder.fingerprint(), rows_fingerprint(pool, embedder))
    features = embed(pool, embedder, folder, description="embedding pool")
    targets = embed(prompts, embedder, description="embedding prompts")
    picks: np.ndarray = np.asarray(select_rows_per_target(features, targets, settings.num_examples).indices)
    return picks


def _tuner(settings: Settings) -> TestTimeTuner:
    gc.collect()
    return TestTimeTuner(
        settings.model_name_or_path,
        lora_r=settings.lora_r,
        learning_rate=settings.learning_rate,
        batch_size=settings.batch_size,
        max_length=settings.max_length,
        max_new_tokens=settings.max_new_tokens,
        seed=settings.seed,
    )


if __name__ == "__main__":
    run(*TrlParser(Settings).parse_args_and_config())
