"""Test-time fine-tuning: every prompt gets rows of its own, a few gradient steps on a fresh adapter, and its answer.

    python -m recipes.test_time
    python -m recipes.test_time --num_prompts 64 --num_examples 20 --learning_rate 2e-4

For each prompt: 50 picks by SIFT (VTL with one target), one pass over them in the order picked, the loss of the right
answer before and after, a greedy answer, and the adapter is put back to where it began. The prompts' answers are used
for measuring and for nothing else. Every prompt's result is saved at once: started again with the same settings, the
recipe goes on with the next prompt. One process; models that fit on one device.

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
from transformers import HfArgumentParser

from itl_hf import HiddenStates, embed, select_rows_per_target
from itl_hf.cli.load_rows import load_rows
from itl_hf.embedding.embed import rows_fingerprint
from itl_hf.embedding.store.paths import feature_directory
from itl_hf.text import plain_text
from recipes.offline import MODEL_DIRECTORY
from recipes.offline_files import HELD_OUT, SMALL_POOL, ensure
from recipes.quickstart.results import Results
from recipes.test_time.tuner import TestTimeTuner


@dataclass
class Settings:
    """What to run; names are TRL's where it has them."""

    model_name_or_path: str = field(default=str(MODEL_DIRECTORY), metadata={"help": "Model to fine-tune."})
    dataset_name: str = field(default=str(SMALL_POOL), metadata={"help": "Rows to learn from, with completions."})
    prompts: str = field(default=str(HELD_OUT), metadata={"help": "Rows to answer, with completions to measure by."})
    num_prompts: int = field(default=8, metadata={"help": "How many of the prompts, evenly spaced."})
    num_examples: int = field(default=50, metadata={"help": "Picks for each prompt."})
    batch_size: int = field(default=5, metadata={"help": "Picks in a gradient step."})
    learning_rate: float = field(default=5e-4, metadata={"help": "Of AdamW, on the adapter alone."})
    lora_r: int = field(default=8, metadata={"help": "Rank of the adapter."})
    max_length: int = field(default=512, metadata={"help": "Tokens of a row that are trained on."})
    max_new_tokens: int = field(default=48, metadata={"help": "Tokens of an answer."})
    layer: float = field(default=0.75, metadata={"help": "Hidden states to embed with, as a share of the depth."})
    store: str = field(default="outputs/features", metadata={"help": "Folder that keeps features."})
    output_file: str = field(default="outputs/test_time/results.json", metadata={"help": "Where the results go."})
    seed: int = field(default=0, metadata={"help": "Seed of the adapter."})

    def __post_init__(self) -> None:
        for name in ("num_prompts", "num_examples", "batch_size", "lora_r", "max_length", "max_new_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def identity(self) -> dict[str, Any]:
        """Everything that a result depends on, beside the rows themselves."""
        return {name: value for name, value in asdict(self).items() if name not in ("store", "output_file")}


def run(settings: Settings) -> list[dict[str, Any]]:
    """Embeds, picks for all prompts together, then tunes and measures prompt by prompt.

    Args:
        settings (`Settings`):
            What to run.

    Returns:
        `list[dict]`: for each prompt its text, right answer, `loss_before`, `loss_after`, answer, and picks.

    Raises:
        `ValueError`: More prompts than there are, or a prompt without a completion to measure by.
    """
    ensure(settings.model_name_or_path, settings.dataset_name, settings.prompts)
    pool, prompts = load_rows(settings.dataset_name), _prompts(settings)
    picked = _picks(settings, pool, prompts)
    results = Results(Path(settings.output_file), settings.identity())
    tuner: TestTimeTuner | None = None
    found = []
    for prompt, picks in zip(tqdm(prompts.to_list(), desc="prompts", unit="prompt"), picked, strict=True):
        rows = pool.select(picks).to_list()
        step = hashlib.sha256(json.dumps([prompt, rows], sort_keys=True, default=str).encode()).hexdigest()[:16]
        if step not in results:
            tuner = tuner or _tuner(settings)
            question, right = plain_text(prompt)
            tuned = asdict(tuner.run(prompt, rows))
            results.save(step, {"prompt": question, "right_answer": right, **tuned, "picks": picks.tolist()})
        found.append(results[step])
        tqdm.write(f"{found[-1]['loss_before']:.3f} -> {found[-1]['loss_after']:.3f}  {found[-1]['prompt'][:80]!r}")
    before, after = (fmean(result[name] for result in found) for name in ("loss_before", "loss_after"))
    better = sum(result["loss_after"] < result["loss_before"] for result in found)
    print(
        f"loss of the right answer, nats a token, mean of {len(found)} prompts: {before:.3f} before, {after:.3f} "
        f"after; lower for {better}\nsaved to {settings.output_file}"
    )
    return found


def _prompts(settings: Settings) -> Dataset:
    prompts = load_rows(settings.prompts)
    if settings.num_prompts > len(prompts):
        raise ValueError(f"--num_prompts {settings.num_prompts}: {settings.prompts} has only {len(prompts)}")
    spaced = np.linspace(0, len(prompts) - 1, settings.num_prompts).round().astype(np.int64)
    chosen = prompts.select(spaced)
    for number, prompt in zip(spaced.tolist(), chosen.to_list(), strict=True):
        if not plain_text(prompt)[1]:
            raise ValueError(f"{settings.prompts}, row {number}: no completion to measure the loss on")
    return chosen


def _picks(settings: Settings, pool: Dataset, prompts: Dataset) -> np.ndarray:
    """Row numbers of the pool for each prompt, (m, n), best first; the embedder's model is let go of."""
    embedder = HiddenStates(settings.model_name_or_path, layer=settings.layer)
    folder = feature_directory(settings.store, embedder.fingerprint(), rows_fingerprint(pool, embedder))
    features = embed(pool, embedder, folder, description="embedding pool")
    wanted = embed(prompts, embedder, description="embedding prompts")
    picks: np.ndarray = np.asarray(select_rows_per_target(features, wanted, settings.num_examples).indices)
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
    run(*HfArgumentParser(Settings).parse_args_into_dataclasses())  # type: ignore[arg-type]
