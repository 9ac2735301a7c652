"""LESS: picks the rows with the largest influence on labelled targets, by gradients after a warm-up.

    python -m recipes.less
    python -m recipes.less --rule less_round_robin --num_examples 96 --shortlist 20

Copied out of the repository, the folder runs as `python -m less`. The recipe trains a LoRA adapter on a random 5% of
the pool. After each epoch it computes gradients with the model and the optimizer as they are: the updates that Adam
would make for the rows of the pool, plain gradients for the targets, both on completions. The gradients of all epochs
are concatenated, and rows are picked by their influence, in which an epoch counts by its learning rate. With
`--shortlist K` only the rows that are picked for any one target among its K by hidden states have gradients; a gradient
costs about three forward passes and is computed in every epoch.

Features are kept in `--store`: a run that was interrupted repeats the warm-up and continues with the gradients.

Source: Xia et al., "LESS: Selecting Influential Data for Targeted Instruction Tuning" (ICML 2024).
"""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from trl import TrlParser

from itl_hf import HiddenStates, RowSelection, embed, load_rows, select_rows, select_rows_per_target
from itl_hf.embedding import feature_directory, rows_fingerprint
from itl_hf.selection.baselines import LESS, LESSRoundRobin, UnbalancedTransport
from itl_hf.text import plain_text
from itl_hf.training import WarmUpOptions, warm_up

RULES: dict[str, Any] = {
    "less": LESS,
    "less_round_robin": LESSRoundRobin,
    "unbalanced_transport": UnbalancedTransport,
}


@dataclass
class Settings:
    """The options of the recipe. The default model and data are made by `python -m recipes.offline_files`."""

    model_name_or_path: str = field(
        default="outputs/models/SmolLM2-135M-Instruct", metadata={"help": "Model to fine-tune: a Hub id or a folder."}
    )
    dataset_name: str = field(
        default="outputs/offline/pool-768.jsonl", metadata={"help": "Rows to pick from, with completions."}
    )
    targets: str = field(
        default="outputs/offline/held_out.jsonl", metadata={"help": "Rows of the task, with completions."}
    )
    num_examples: int = field(default=96, metadata={"help": "Rows to pick."})
    rule: Literal["less", "less_round_robin", "unbalanced_transport"] = field(
        default="less", metadata={"help": "How influence becomes picks."}
    )
    shortlist: int = field(default=0, metadata={"help": "Rows of each target that have gradients; 0: all rows."})
    warm_up_share: float = field(default=0.05, metadata={"help": "Share of the pool that the warm-up trains on."})
    epochs: int = field(default=4, metadata={"help": "Epochs of the warm-up, each with gradients of its own."})
    batch_size: int = field(default=32, metadata={"help": "Rows in a step of the warm-up."})
    learning_rate: float = field(default=2e-5, metadata={"help": "Peak learning rate of the warm-up."})
    lora_r: int = field(default=16, metadata={"help": "Rank of the adapter; LESS uses 128."})
    dimension: int = field(default=8192, metadata={"help": "Numbers in a gradient of one epoch."})
    max_length: int | None = field(default=None, metadata={"help": "Longer rows are cut to this many tokens."})
    store: str = field(default="outputs/features", metadata={"help": "Folder that keeps features."})
    output_file: str = field(default="outputs/less/picks.jsonl", metadata={"help": "The picked rows, best first."})
    seed: int = field(default=0, metadata={"help": "Seed of the warm-up and of its rows."})

    def __post_init__(self) -> None:
        if not 0 < self.warm_up_share <= 1:
            raise ValueError(f"warm_up_share must be above 0 and at most 1, got {self.warm_up_share}")
        if self.shortlist < 0:
            raise ValueError(f"shortlist must be 0 (all rows) or positive, got {self.shortlist}")
        self.warm_up_options()

    def warm_up_options(self) -> WarmUpOptions:
        """Returns the options of the warm-up.

        Raises:
            `ValueError`: If one is out of its range.
        """
        return WarmUpOptions(self.epochs, self.batch_size, self.learning_rate, self.lora_r, self.max_length, self.seed)


def run(settings: Settings) -> Dataset:
    """Picks rows, writes them, and returns them with their row numbers of the pool (`pool_index`), best first.

    Args:
        settings (`Settings`):
            The options.

    Raises:
        `ValueError`: If a row has no completion.
    """
    pool, targets = load_rows(settings.dataset_name), load_rows(settings.targets)
    check_completions(pool, settings.dataset_name)
    check_completions(targets, settings.targets)
    numbers = shortlist(settings, pool, targets)
    features, target_features, rates = gradients(settings, pool, pool.select(numbers), targets)
    picks: RowSelection = select_rows(
        features, target_features, settings.num_examples, acquisition=RULES[settings.rule](learning_rates=rates)
    )
    picked_rows = pool.select(numbers[picks.indices]).add_column("pool_index", numbers[picks.indices])
    Path(settings.output_file).parent.mkdir(parents=True, exist_ok=True)
    picked_rows.to_json(settings.output_file, force_ascii=False)
    print(f"{len(picked_rows)} of {len(pool)} rows: {settings.output_file}")
    return picked_rows


def check_completions(rows: Dataset, name: str) -> None:
    """Raises `ValueError` for the first row without a completion."""
    for number, row in enumerate(rows):
        if not plain_text(row)[1]:
            raise ValueError(f"{name}, row {number}: no completion, so it has no loss and no gradient; leave it out")


def shortlist(settings: Settings, pool: Dataset, targets: Dataset) -> np.ndarray:
    """Returns the row numbers whose gradients are computed, ascending."""
    if not settings.shortlist:
        return np.arange(len(pool))
    embedder = HiddenStates(settings.model_name_or_path, span="prompt")
    folder = feature_directory(settings.store, embedder.fingerprint(), rows_fingerprint(pool, embedder))
    features = embed(pool, embedder, folder, description="embedding pool")
    prompts = embed(targets, embedder, description="embedding targets")
    count = min(settings.shortlist, len(pool))
    numbers: np.ndarray = np.unique(np.asarray(select_rows_per_target(features, prompts, count).indices))
    gc.collect()  # frees the embedder's model
    return numbers


def gradients(
    settings: Settings, pool: Dataset, rows: Dataset, targets: Dataset
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Returns the gradients of all epochs, of the rows (N, epochs * d) and of the targets, and the learning rates."""
    count = max(1, round(settings.warm_up_share * len(pool)))
    chosen = np.random.default_rng(settings.seed).choice(len(pool), count, replace=False)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    rates: list[float] = []
    for checkpoint in warm_up(settings.model_name_or_path, pool.select(chosen).to_list(), settings.warm_up_options()):
        embedders = checkpoint.embedders(dimension=settings.dimension)
        part = []
        for name, data, embedder in zip(("pool", "targets"), (rows, targets), embedders, strict=True):
            folder = feature_directory(settings.store, embedder.fingerprint(), rows_fingerprint(data, embedder))
            description = f"gradients of {name}, epoch {len(rates) + 1}"
            part.append(np.asarray(embed(data, embedder, folder, description=description)))
        parts.append((part[0], part[1]))
        rates.append(checkpoint.learning_rate)
    return np.concatenate([pool for pool, _ in parts], 1), np.concatenate([side for _, side in parts], 1), rates


if __name__ == "__main__":
    run(*TrlParser(Settings).parse_args_and_config())
