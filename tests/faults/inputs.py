"""The rows and the model of the fault tests, and the commands that work on them in the folder where they are called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.faults.processes import Job, command
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

#: Beside the folders of the tests: an absolute path would differ between them, and the record holds it.
MODEL = ("--model_name_or_path", "../model", "--layer", 1)
ROWS = ("--pool", "pool.jsonl", "--targets", "targets.csv")
TRAINING = {
    "dataset_name": "pool.jsonl",
    "targets": "targets.csv",
    "use_peft": True,
    "lora_r": 2,
    "max_length": 64,
    "per_device_train_batch_size": 2,
    "num_train_epochs": 2,
    "learning_rate": 1e-2,
    "gradient_checkpointing": False,
    "bf16": False,
    "use_cpu": True,
    "report_to": "none",
    "save_steps": 2,
    "disable_tqdm": True,
    "dataloader_pin_memory": False,
    "resume_from_checkpoint": True,
}


def write_model(root: Path) -> None:
    """Writes the tiny model beside the folders of the tests."""
    tiny_model("llama").save_pretrained(root / "model")
    tiny_tokenizer().save_pretrained(root / "model")


def write_rows(folder: Path) -> Path:
    """Makes a folder with a pool and targets."""
    folder.mkdir(parents=True)
    rows = [{"prompt": f"{text} ({number})", "completion": "yes"} for number in range(6) for text in SENTENCES]
    (folder / "pool.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    lines = ["prompt", *(f'"{text}"' for text in SENTENCES[:2])]
    (folder / "targets.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def copy(source: Path, target: Path) -> Path:
    """Copies a folder with its links."""
    return shutil.copytree(source, target, symlinks=True)


def embed_pool(seconds: float = 0.0) -> Job:
    """Returns a job that embeds the pool into `features`, six rows to a shard.

    Args:
        seconds: how long to wait before each shard.
    """

    def job() -> None:
        import time

        from itl_hf import HiddenStates
        from itl_hf.cli.load_rows import load_rows
        from itl_hf.embedding import embed

        class Slow(HiddenStates):
            def embed_prepared(self, *arguments, **options):
                time.sleep(seconds)
                return super().embed_prepared(*arguments, **options)

        embed(
            load_rows("pool.jsonl"), (Slow if seconds else HiddenStates)("../model", layer=1), "features", shard_rows=6
        )

    return job


def select(number: int, *words: object) -> Job:
    """Returns a job that selects so many rows into `selected`."""
    return command("select", *ROWS, *MODEL, "--num_examples", number, "--output_dir", "selected", *words)


def train(*words: object) -> Job:
    """Returns a job that trains into `trained`, and goes on from the last checkpoint if there is one."""
    options = (word for name, value in TRAINING.items() for word in (f"--{name}", value))
    return command("train", *options, *MODEL, "--output_dir", "trained", *words)
