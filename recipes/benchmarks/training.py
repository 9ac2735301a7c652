"""Measures the cost of `attach`: per step for a fixed selection, and the parts of a round for active rounds.

    OMP_NUM_THREADS=1 python -m recipes.benchmarks.training     # some minutes on one core

Static: the same tiny random Llama trains on the same pool for the same number of steps, alternately with the Trainer's
own random sampler and with an attached selection. `step_ms` are medians over all steps of the CPU time from the start
of a step to the start of the next, which includes data loading and callbacks. On a busy machine two such medians differ
by a percent or two by chance. `attached_us_a_step` therefore times our code alone: drawing a batch of picks and the
callback's events. The aim of 1% is about its share of a step.

Active: SmolLM2-135M with LoRA on generated tasks; wall-clock seconds of embedding, selecting and training in each
round, as `attach` logs them. Results are written to `recipes/benchmarks/results/training.json`.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from torch.utils.data import BatchSampler
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    LlamaConfig,
    LlamaForCausalLM,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from itl_hf import HiddenStates, Selector
from itl_hf.text import RowTokenizer, training_features
from itl_hf.training import SelectionSampler, attach
from itl_hf.training.attachment import SelectionCallback
from recipes.offline import smollm2
from recipes.quickstart.data import quickstart_data

RESULTS = Path(__file__).parent / "results" / "training.json"
POOL, LENGTH, BATCH = 20_000, 32, 4


class StepClock(TrainerCallback):
    """Measures CPU milliseconds from the start of each step to the next, and wall-clock seconds of each epoch."""

    def __init__(self) -> None:
        self.marks: list[float] = []
        self.epochs: list[float] = []
        self._epoch_start = 0.0

    def on_epoch_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Is called before the callback of the attached selection, so the epoch's seconds include the selection."""
        self._epoch_start = time.perf_counter()

    def on_step_begin(self, *_args: Any, **_kwargs: Any) -> None:
        """Records the time."""
        self.marks.append(time.process_time())

    def on_epoch_end(self, *_args: Any, **_kwargs: Any) -> None:
        """Records the seconds of the epoch."""
        self.epochs.append(time.perf_counter() - self._epoch_start)

    def steps_ms(self) -> list[float]:
        """Returns the milliseconds of all steps but the first ones, in which caches are filled."""
        return [1e3 * float(step) for step in np.diff(self.marks)[5:]]


def arguments(directory: str, **changes: Any) -> TrainingArguments:
    """Returns training arguments for one process on the CPU that writes no files."""
    return TrainingArguments(
        output_dir=directory,
        per_device_train_batch_size=BATCH,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **changes,
    )


def tiny_llama() -> LlamaForCausalLM:
    """Builds a model of two layers of width 64. A step takes a few milliseconds, so that any overhead is visible."""
    set_seed(0)
    config = LlamaConfig(
        vocab_size=512, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4
    )
    return LlamaForCausalLM(config)


def tiny_pool() -> Dataset:
    """Returns rows of random tokens."""
    ids = np.random.default_rng(0).integers(3, 512, (POOL, LENGTH)).tolist()
    return Dataset.from_dict({"input_ids": ids, "labels": ids})


def static(rounds: int, steps: int) -> dict[str, Any]:
    """Alternates between a Trainer with its own sampler and a Trainer with a selection."""
    pool = tiny_pool()
    picks = np.random.default_rng(1).permutation(POOL)[: steps * BATCH]
    times: dict[str, list[float]] = {"plain": [], "attached": []}
    with tempfile.TemporaryDirectory() as directory:
        for turn in range(2 * rounds):
            name = ("plain", "attached")[turn % 2]
            clock = StepClock()
            trainer = Trainer(
                tiny_llama(), arguments(directory, max_steps=steps), train_dataset=pool, callbacks=[clock]
            )
            if name == "attached":
                attach(trainer, picks, order="shuffled")
            trainer.train()
            times[name] += clock.steps_ms()
        ours = ours_alone(attach(trainer, picks, order="shuffled"), picks, steps)
    medians = {name: statistics.median(values) for name, values in times.items()}
    return {
        "steps_each": len(times["plain"]),
        "plain_step_ms": medians["plain"],
        "attached_step_ms": medians["attached"],
        "difference_of_medians": medians["attached"] / medians["plain"] - 1,
        "attached_us_a_step": 1e6 * ours,
        "share_of_a_step": 1e3 * ours / medians["plain"],
    }


def ours_alone(trainer: Trainer, picks: np.ndarray, steps: int) -> float:
    """Returns the CPU seconds per step of drawing picks and of the callback's events, as a median of many epochs."""
    callback = next(one for one in trainer.callback_handler.callbacks if isinstance(one, SelectionCallback))
    handler_arguments = (trainer.args, trainer.state, trainer.control)
    sampler = SelectionSampler(picks, order="shuffled")
    seconds = []
    for _ in range(100):
        start = time.process_time()
        callback.on_epoch_begin(*handler_arguments)
        for _batch in BatchSampler(sampler, BATCH, drop_last=False):
            callback.on_step_begin(*handler_arguments)
            callback.on_step_end(*handler_arguments)
        seconds.append((time.process_time() - start) / steps)
    return statistics.median(seconds)


def active(rows: int, examples_per_round: int, rounds: int) -> dict[str, Any]:
    """Times embedding, selecting and training in each round."""
    data = quickstart_data()
    pool = data.pool.shuffle(seed=0).select(range(rows))
    path = str(smollm2())
    tokenizer = AutoTokenizer.from_pretrained(path)
    lora = LoraConfig(r=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32), lora)
    tokens = RowTokenizer(tokenizer, max_length=256)([dict(row) for row in pool])
    features = [training_features(row) for row in tokens]
    train = Dataset.from_list(features)
    clock = StepClock()
    with tempfile.TemporaryDirectory() as directory:
        trainer = Trainer(
            model,
            arguments(directory, num_train_epochs=rounds, learning_rate=2e-4),
            train_dataset=train,
            data_collator=DataCollatorForSeq2Seq(tokenizer),
            callbacks=[clock],
        )
        selector = Selector(HiddenStates(model, tokenizer=tokenizer))  # the trainer's own model object
        options = {"targets": data.targets, "examples_per_round": examples_per_round, "pool": pool}
        attach(trainer, selector, **options).train()
    lines = [line for line in trainer.state.log_history if "itl/round" in line]
    round_records = []
    for line, epoch in zip(lines, clock.epochs, strict=True):
        embedding, selecting = line["itl/embedding_seconds"], line["itl/selection_seconds"]
        training = epoch - embedding - selecting
        round_records.append(
            {
                "embedding_seconds": embedding,
                "selection_seconds": selecting,
                "training_seconds": training,
                "embedding_share": embedding / epoch,
                "selection_share": selecting / epoch,
                "gain": line["itl/gain"],
                "target_variance": line["itl/target_variance"],
            }
        )
    return {
        "model": "SmolLM2-135M-Instruct, LoRA r=8",
        "pool_rows": rows,
        "pool_tokens": sum(len(row["input_ids"]) for row in features),
        "targets": len(data.targets),
        "examples_per_round": examples_per_round,
        "rounds": round_records,
    }


def main() -> None:
    """Measures, prints the results and writes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=8, help="static: turns of each side")
    parser.add_argument("--steps", type=int, default=150, help="static: steps in a turn")
    parser.add_argument("--rows", type=int, default=192, help="active: rows of the pool")
    parser.add_argument("--examples", type=int, default=16, help="active: rows trained on in a round")
    parser.add_argument("--rounds", type=int, default=2, help="active: rounds")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    machine = {"threads": 1, "cpu": platform.processor() or platform.machine(), "torch": torch.__version__}
    results: dict[str, Any] = {"machine": machine, "static": static(options.turns, options.steps)}
    print(json.dumps(results["static"], indent=2), flush=True)
    results["active"] = active(options.rows, options.examples, options.rounds)
    print(json.dumps(results["active"], indent=2))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")


if __name__ == "__main__":
    main()
