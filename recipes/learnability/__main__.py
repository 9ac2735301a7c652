"""Quality of rows from their learnability: how much of a row's loss a short training on labelled targets removes.

    python -m recipes.learnability
    python -m recipes.learnability --shortlist 1000 --output_file outputs/learnability/pool.jsonl
    itl-hf select outputs/learnability/pool.jsonl outputs/offline/targets.jsonl outputs/selection \
        --num_examples 96 --quality quality

Copied out of the repository, the folder runs as `python -m learnability`. The recipe takes the rows nearest to the
targets by hidden states, measures the loss of their responses, trains a small LoRA adapter on the targets, and measures
again. A row's score is the share of its loss that is gone (`--score loss_drop`), or how much smaller the loss of its
answer is after its own prompt than after that of the most similar row (`--score contrast`, a third forward pass).
Compared with the rows most similar to it, the score becomes a quality (`quality.py`). The shortlist is written with the
columns `pool_index`, `loss_before`, `loss_after`, `score` and `quality`; rows that are not on it have not been measured
and are left out.

Source of the loss drop: Yang, He & Cheng, "Let the Target Select for Itself: Data Selection via Target-Aligned Paths"
(arXiv 2605.09404). The contrast, the comparison with similar rows and the map to a quality are this recipe's own.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from datasets import Dataset
from trl import TrlParser

from itl_hf import HiddenStates, embed, load_rows, select_rows
from itl_hf.embedding import feature_directory, rows_fingerprint
from itl_hf.text import Row, plain_text
from itl_hf.training import WarmUpOptions, response_losses, warm_up

from .quality import contrast, nearest_rows, normalised_drop, quality_of


@dataclass
class Settings:
    """The options of the recipe. The default model and data are made by `python -m recipes.offline_files`."""

    model_name_or_path: str = field(
        default="outputs/models/SmolLM2-135M-Instruct", metadata={"help": "Model to fine-tune: a Hub id or a folder."}
    )
    dataset_name: str = field(
        default="outputs/offline/pool-768.jsonl", metadata={"help": "Rows to measure, with completions."}
    )
    targets: str = field(
        default="outputs/offline/held_out.jsonl", metadata={"help": "Rows of the task, with completions."}
    )
    shortlist: int = field(default=3000, metadata={"help": "Rows nearest to the targets that are measured."})
    score: Literal["loss_drop", "contrast"] = field(
        default="loss_drop", metadata={"help": "What the quality follows from: loss_drop as in the paper, or contrast."}
    )
    neighbours: int = field(default=20, metadata={"help": "Similar rows that a row is compared with."})
    epochs: int = field(default=2, metadata={"help": "Epochs of the training on the targets."})
    batch_size: int = field(default=4, metadata={"help": "Targets in a gradient step."})
    learning_rate: float = field(default=1e-3, metadata={"help": "Peak learning rate of the training."})
    lora_r: int = field(default=1, metadata={"help": "Rank of the adapter; the paper's is 1."})
    max_length: int | None = field(default=None, metadata={"help": "Longer rows are cut to this many tokens."})
    store: str = field(default="outputs/features", metadata={"help": "Folder that keeps features."})
    output_file: str = field(default="outputs/learnability/pool.jsonl", metadata={"help": "The shortlist's rows."})
    seed: int = field(default=0, metadata={"help": "Seed of the training."})

    def __post_init__(self) -> None:
        if self.score not in ("loss_drop", "contrast"):
            raise ValueError(f"score must be loss_drop or contrast, got {self.score!r}")
        for name, least in (("shortlist", 1), ("neighbours", 3)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        self.training_options()

    def training_options(self) -> WarmUpOptions:
        """Returns the options of the training on the targets.

        Raises:
            `ValueError`: If one is out of its range.
        """
        return WarmUpOptions(self.epochs, self.batch_size, self.learning_rate, self.lora_r, self.max_length, self.seed)


def run(settings: Settings) -> Dataset:
    """Measures the shortlist, writes it and returns it, in the order of the pool.

    Args:
        settings (`Settings`):
            The options.

    Raises:
        `ValueError`: If a row has no completion, or a pool's column has the name of a new one.
    """
    pool, targets = load_rows(settings.dataset_name), load_rows(settings.targets)
    check_rows(pool, settings.dataset_name)
    check_rows(targets, settings.targets)
    numbers, features = shortlist(settings, pool, targets)
    rows = pool.select(numbers)
    neighbours = nearest_rows(features, settings.neighbours)
    before, after, scores = measure(settings, rows.to_list(), targets.to_list(), neighbours)
    quality = quality_of(scores, neighbours)
    for name, values in zip(COLUMNS, (numbers, before, after, scores, quality), strict=True):
        rows = rows.add_column(name, values)
    Path(settings.output_file).parent.mkdir(parents=True, exist_ok=True)
    rows.to_json(settings.output_file, force_ascii=False)
    print(
        f"{len(rows)} of {len(pool)} rows: {settings.output_file}\nmean loss {before.mean():.3f} before, "
        f"{after.mean():.3f} after; {np.mean(quality < 0.5):.0%} of the rows have a quality below one half"
    )
    return rows


COLUMNS = ("pool_index", "loss_before", "loss_after", "score", "quality")


def check_rows(rows: Dataset, name: str) -> None:
    """Raises `ValueError` for the first row without a completion, or a column that the recipe adds."""
    occupied_columns = sorted(set(COLUMNS) & set(rows.column_names))
    if occupied_columns:
        raise ValueError(f"{name} already has the columns {occupied_columns}; rename or remove them first")
    for number, row in enumerate(rows):
        if not plain_text(row)[1]:
            raise ValueError(f"{name}, row {number}: no completion, so there is no loss to measure; leave it out")


def shortlist(settings: Settings, pool: Dataset, targets: Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Returns the row numbers nearest to each target in turn, ascending, and their features, (n,), (n, d)."""
    embedder = HiddenStates(settings.model_name_or_path, span="prompt")
    folder = feature_directory(settings.store, embedder.fingerprint(), rows_fingerprint(pool, embedder))
    features = np.asarray(embed(pool, embedder, folder, description="embedding pool"))
    numbers = np.arange(len(pool))
    if settings.shortlist < len(pool):
        prompts = embed(targets, embedder, description="embedding targets")
        numbers = np.sort(select_rows(features, prompts, settings.shortlist, acquisition="round_robin").indices)
    gc.collect()  # frees the embedder's model
    return numbers, features[numbers]


def swap_prompts(rows: Sequence[Row], neighbours: np.ndarray) -> list[Row]:
    """Returns each row's answer after the prompt of its nearest neighbour that has another prompt.

    A row whose neighbours all have its own prompt stays as it is.
    """
    prompts = [plain_text(row)[0] for row in rows]
    swapped_rows: list[Row] = []
    for number, row in enumerate(rows):
        other = next((int(near) for near in neighbours[number] if prompts[near] != prompts[number]), number)
        if "messages" in row:
            swapped_rows.append({**rows[other], "messages": [*rows[other]["messages"][:-1], row["messages"][-1]]})
        else:
            swapped_rows.append({**rows[other], "completion": row["completion"]})
    return swapped_rows


def measure(
    settings: Settings, rows: list[Row], targets: list[Row], neighbours: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns the loss of each row's response before and after a training on the targets, and its score, (n,) each."""
    before = response_losses(settings.model_name_or_path, rows, max_length=settings.max_length)
    with contextlib.closing(warm_up(settings.model_name_or_path, targets, settings.training_options())) as checkpoints:
        for _ in range(settings.epochs):  # not further: at the end of the warm-up the adapter is removed
            trained = next(checkpoints)
        options: Any = {"tokenizer": trained.tokenizer, "max_length": settings.max_length}
        after = response_losses(trained.model, rows, **options)
        if settings.score == "loss_drop":
            return before, after, normalised_drop(before, after)
        swapped = response_losses(trained.model, swap_prompts(rows, neighbours), **options)
    return before, after, contrast(after, swapped)


if __name__ == "__main__":
    run(*TrlParser(Settings).parse_args_and_config())
