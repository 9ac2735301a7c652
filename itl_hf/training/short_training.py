"""Short LoRA trainings that selection needs: a warm-up before gradients are taken (LESS), and losses before and after.

`warm_up` trains an adapter on a few rows and stops after each epoch, so that gradients can be taken with the model and
the optimizer as they are at that moment. `response_losses` measures rows with any model. Both read rows as selection
does, and take the loss on responses only.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LRScheduler
from tqdm.auto import tqdm
from transformers import get_scheduler, set_seed

from itl_hf.embedding.embedders.gradients import AdamPreconditioner, Gradients
from itl_hf.embedding.embedders.model_loading import load_model, resolve_max_length, resolve_tokenizer
from itl_hf.embedding.progress import progress_bars_enabled
from itl_hf.text import Row, RowTokenizer, plain_text, training_features

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class WarmUpOptions:
    """The options of a warm-up. The defaults are those of LESS, with an adapter of rank 16 instead of 128.

    Args:
        epochs (`int`, *optional*, defaults to 4):
            Passes over the rows.
        batch_size (`int`, *optional*, defaults to 32):
            Rows in a gradient step.
        learning_rate (`float`, *optional*, defaults to 2e-5):
            Peak learning rate of AdamW; it rises over the first 3% of the steps and falls linearly to zero.
        lora_r (`int`, *optional*, defaults to 16):
            Rank of the adapter, which is on all linear layers; alpha is four times the rank, as in LESS.
        max_length (`int`, *optional*):
            Longer rows are cut to this many tokens; defaults to the model's context, at most 2048, as for embedders.
        seed (`int`, *optional*, defaults to 0):
            Seed of the adapter's first weights, of the order and of dropout.

    Raises:
        `ValueError`: If a number is out of its range.
    """

    epochs: int = 4
    batch_size: int = 32
    learning_rate: float = 2e-5
    lora_r: int = 16
    max_length: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lora_r", "max_length"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be positive, got {self.learning_rate}")


@dataclass(frozen=True)
class WarmUpCheckpoint:
    """The model after an epoch of a warm-up. It trains on when the next checkpoint is asked for.

    Args:
        model (`PeftModel`):
            The model with its adapter, as it is now.
        optimizer (`torch.optim.Optimizer`):
            AdamW with its moments.
        tokenizer (`PreTrainedTokenizerBase`):
            The model's tokenizer.
        learning_rate (`float`):
            Mean learning rate of the epoch's steps: the checkpoint's weight in LESS.
        max_length (`int`):
            Tokens of a row that are read.
    """

    model: PeftModel
    optimizer: torch.optim.Optimizer
    tokenizer: PreTrainedTokenizerBase
    learning_rate: float
    max_length: int | None

    def embedders(self, **options: Any) -> tuple[Gradients, Gradients]:
        """Returns LESS's embedders: Adam's updates for the pool, plain gradients for the targets.

        Embed with them before the next checkpoint is asked for.

        Args:
            **options:
                Further options of `Gradients`, such as `dimension`.
        """
        options = {"tokenizer": self.tokenizer, "max_length": self.max_length, **options}
        adam = AdamPreconditioner.from_optimizer(self.optimizer, self.model, kind="update")
        return Gradients(self.model, adam=adam, **options), Gradients(self.model, **options)


def warm_up(
    model: str | Path | PreTrainedModel,
    rows: Sequence[Row],
    options: WarmUpOptions | None = None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> Generator[WarmUpCheckpoint, None, None]:
    """Trains a LoRA adapter on rows and yields the model after each epoch.

    Source: Xia et al., "LESS" (ICML 2024), section 4.1: a warm-up on a random 5% of the pool, so that gradients and
    Adam's moments are those of a model that has begun to learn, and its checkpoints are used after each epoch. The
    adapter is removed when the generator ends or is closed: use a checkpoint before asking for what comes after it.

    Args:
        model (`str`, `Path` or `PreTrainedModel`):
            Hub id, folder, or a causal language model without an adapter.
        rows (`Sequence[Row]`):
            Rows with completions.
        options (`WarmUpOptions`, *optional*):
            Options of the training.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Defaults to the one saved with the model.

    Raises:
        `ValueError`: If there are no rows, or nothing of a row's completion is left within `max_length`; the row is
            named.

    Example:
        >>> from itl_hf.training import WarmUpOptions, warm_up
        >>> rows = [{"prompt": "2 + 2 =", "completion": " 4"}, {"prompt": "3 + 2 =", "completion": " 5"}]
        >>> options = WarmUpOptions(epochs=2, batch_size=1)
        >>> [round(checkpoint.learning_rate * 1e5, 2) for checkpoint in warm_up(model, rows, options)]
        [1.75, 0.75]
    """
    options = WarmUpOptions() if options is None else options
    base: Any = load_model(model, head=True)
    tokenizer = resolve_tokenizer(tokenizer, base, None, False)
    features = _features(rows, tokenizer, resolve_max_length(options.max_length, base))
    if not features:
        raise ValueError("warm_up needs at least one row")
    set_seed(options.seed)
    adapted_model = get_peft_model(
        base,
        LoraConfig(
            r=options.lora_r,
            lora_alpha=4 * options.lora_r,
            lora_dropout=0.1,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    try:
        yield from _epochs(adapted_model, features, tokenizer, options)
    finally:
        adapted_model.unload()


def _epochs(
    model: PeftModel, features: list[dict[str, Any]], tokenizer: PreTrainedTokenizerBase, options: WarmUpOptions
) -> Iterator[WarmUpCheckpoint]:
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=0.0)
    steps = options.epochs * -(-len(features) // options.batch_size)
    schedule = get_scheduler("linear", optimizer, num_warmup_steps=round(0.03 * steps), num_training_steps=steps)
    rng = random.Random(options.seed)
    for _ in range(options.epochs):
        model.train()
        order = rng.sample(features, len(features))
        starts = range(0, len(order), options.batch_size)
        batches = [order[start : start + options.batch_size] for start in starts]
        bar = tqdm(batches, desc="warm-up", unit="step", disable=not progress_bars_enabled())
        rates = [_step(model, batch, optimizer, schedule) for batch in bar]
        model.eval()
        yield WarmUpCheckpoint(model, optimizer, tokenizer, statistics.fmean(rates), options.max_length)


def _step(
    model: PeftModel, batch: Sequence[Mapping[str, list[int]]], optimizer: torch.optim.Optimizer, schedule: LRScheduler
) -> float:
    """Makes a gradient step and returns its learning rate."""
    rate = float(schedule.get_last_lr()[0])
    model(**_padded(batch, model.device)).loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    schedule.step()
    return rate


def response_losses(
    model: str | Path | PreTrainedModel | PeftModel,
    rows: Sequence[Row],
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
    max_length: int | None = None,
    batch_size: int = 16,
) -> np.ndarray:
    """Measures the mean loss of each row's response tokens in nats, (N,) float64.

    Args:
        model (`str`, `Path`, `PreTrainedModel` or `PeftModel`):
            A causal language model.
        rows (`Sequence[Row]`):
            Rows with completions.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Defaults to the one saved with the model.
        max_length (`int`, *optional*):
            Longer rows are cut to this many tokens; defaults to the model's context, at most 2048.
        batch_size (`int`, *optional*, defaults to 16):
            Rows in a forward pass; rows of similar length share one.

    Raises:
        `ValueError`: If nothing of a row's completion is left within `max_length`; the row is named.

    Example:
        >>> from itl_hf.training import response_losses
        >>> response_losses(model, [{"prompt": "2 + 2 =", "completion": " 4"}]).shape
        (1,)
    """
    language_model: Any = model if isinstance(model, PeftModel) else load_model(model, head=True)
    features = _features(
        rows, resolve_tokenizer(tokenizer, language_model, None, False), resolve_max_length(max_length, language_model)
    )
    order = np.argsort([-len(row["input_ids"]) for row in features], kind="stable")
    losses, was_training = np.zeros(len(features)), language_model.training
    language_model.eval()
    starts = tqdm(
        range(0, len(order), batch_size), desc="losses", unit="batch", disable=not progress_bars_enabled(), leave=False
    )
    for start in starts:
        places = order[start : start + batch_size]
        losses[places] = _batch_losses(language_model, [features[place] for place in places])
    language_model.train(was_training)
    return losses


@torch.inference_mode()
def _batch_losses(model: Any, features: Sequence[Mapping[str, list[int]]]) -> np.ndarray:
    """Returns the mean loss of each row's labels, (B,)."""
    batch = _padded(features, model.device)
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits  # (B, T, V)
    labels = batch["labels"][:, 1:]  # (B, T - 1)
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), labels, ignore_index=-100, reduction="none"
    )  # (B, T - 1), zero where the label is ignored
    means: np.ndarray = (losses.sum(1) / (labels != -100).sum(1)).cpu().numpy()
    return means


def _padded(features: Sequence[Mapping[str, list[int]]], device: torch.device) -> dict[str, Tensor]:
    """Returns a batch, each tensor (B, T); what pads a row is neither attended to nor a label."""
    columns = {
        name: [torch.tensor(row[name], device=device) for row in features]
        for name in ("input_ids", "attention_mask", "labels")
    }
    return {
        name: pad_sequence(column, batch_first=True, padding_value=-100 if name == "labels" else 0)
        for name, column in columns.items()
    }


def _features(rows: Sequence[Row], tokenizer: PreTrainedTokenizerBase, max_length: int) -> list[dict[str, Any]]:
    features = [training_features(tokens) for tokens in RowTokenizer(tokenizer, max_length=max_length)(list(rows))]
    for number, row_features in enumerate(features):
        if all(label == -100 for label in row_features["labels"][1:]):
            raise ValueError(
                f"row {number} has no response to take a loss on (or nothing of it is left within max_length="
                f"{max_length}): {plain_text(rows[number])[0][:80]!r}. Give it a completion, or leave it out."
            )
    return features
