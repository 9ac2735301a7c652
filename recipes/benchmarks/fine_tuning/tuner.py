"""Runs hundreds of short LoRA trainings on one model; what does not change between them is computed once.

Only the upper layers have adapters, so the inputs of these layers are the same in every run. They are computed once per
row and cached. The rows of a batch are concatenated to one sequence with a block-diagonal attention mask, so that no
padding is computed, and logits are computed only at positions that predict a response. All of it is exact: the loss is
that of the whole model on each row alone (a test compares). With `first_layer` 0 it is LoRA on all layers, at twice the
time.
"""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

from itl_hf.text import RowTokenizer

EVALUATION_TOKENS = 512
#: Tokens of cached rows (1.4 GB for 576 numbers each). Beyond, all are computed again when they are needed.
CACHED_TOKENS = 600_000

Row = dict[str, str]


@dataclass(frozen=True)
class Training:
    """Options of the LoRA training, the same for all methods.

    Args:
        first_layer (`float`):
            Share of the depth above which layers have adapters.
        lora_r (`int`):
            Rank of the adapters; alpha is twice the rank.
        learning_rate (`float`):
            Peak learning rate; it falls linearly to zero.
        batch_size (`int`):
            Rows in a gradient step.
        epochs (`int`):
            Passes over the picks.
        max_length (`int`):
            Longer rows are cut to this many tokens.
        dtype (`str`):
            Precision of the model's frozen weights and of its activations: `"float32"`, or `"bfloat16"`, which is twice
            as fast on CPUs that compute with it. Adapters, their optimizer and the loss are float32 in both.
    """

    first_layer: float = 0.5
    lora_r: int = 8
    learning_rate: float = 1e-3
    batch_size: int = 4
    epochs: int = 1
    max_length: int = 1024
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"training.dtype must be 'float32' or 'bfloat16', got {self.dtype!r}")


@dataclass(frozen=True)
class Example:
    """A row ready for the upper layers.

    Args:
        states (`Tensor`):
            (T, d), inputs of the first layer with an adapter.
        response (`Tensor`):
            (r,), positions whose next token is part of the response.
        labels (`Tensor`):
            (r,), these next tokens.
    """

    states: Tensor
    response: Tensor
    labels: Tensor


class Tuner:
    """Trains adapters on rows and measures the response loss of others.

    Args:
        model_name_or_path (`str`):
            A causal language model whose decoder has `layers` and takes `inputs_embeds`.
        training (`Training`):
            Options of the training.
    """

    def __init__(self, model_name_or_path: str, training: Training) -> None:
        self.training = training
        self.tokenize = RowTokenizer(AutoTokenizer.from_pretrained(model_name_or_path), max_length=training.max_length)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        dtype = getattr(torch, training.dtype)
        self.lower: Any = AutoModel.from_pretrained(model_name_or_path, dtype=dtype)
        self.lower.to(self.device).eval()
        self.model: Any = AutoModelForCausalLM.from_pretrained(model_name_or_path, dtype=dtype)
        self.model.to(self.device)  # type: ignore[arg-type]  # a decorated method
        first = round(training.first_layer * len(self.lower.layers))
        self.lower.layers, self.lower.norm = self.lower.layers[:first], nn.Identity()
        self.model.model.layers = self.model.model.layers[first:]
        self._example_cache: dict[tuple[str, str], Example] = {}

    @contextlib.contextmanager
    def training_on(self, rows: Sequence[Row], seed: int) -> Iterator[None]:
        """A context in which the model has an adapter that was trained on `rows`. Afterwards the adapter is removed.

        Args:
            rows (`Sequence[Row]`):
                Rows with `prompt` and `completion` as strings.
            seed (`int`):
                Seed of the adapter's first weights and of the order.
        """
        torch.manual_seed(seed)
        rank = self.training.lora_r
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
        whole, adapted_model = self.model, get_peft_model(self.model, config)
        try:
            self._fit(list(rows), adapted_model, seed)
            yield
        finally:
            self.model = adapted_model.unload()
            assert self.model is whole

    def _fit(self, rows: list[Row], adapted_model: nn.Module, seed: int) -> None:
        training, rng = self.training, random.Random(seed)
        weights = [weight for weight in adapted_model.parameters() if weight.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=training.learning_rate, weight_decay=0.0)
        steps = training.epochs * -(-len(rows) // training.batch_size)
        schedule = LambdaLR(optimizer, lambda step: max(0.0, 1 - step / steps))
        examples = self.examples(rows)
        for _ in range(training.epochs):
            order = rng.sample(examples, len(examples))
            for start in range(0, len(order), training.batch_size):
                batch = order[start : start + training.batch_size]
                logits = self._logits(batch)
                labels = torch.cat([example.labels for example in batch])
                torch.autograd.backward(nn.functional.cross_entropy(logits, labels))
                nn.utils.clip_grad_norm_(weights, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()

    @torch.no_grad()
    def measure(self, rows: Sequence[Row]) -> tuple[list[float], list[bool]]:
        """Returns for each row the mean loss of its response tokens in nats, and whether all are the likeliest."""
        losses: list[float] = []
        exact: list[bool] = []
        for batch in in_budget(self.examples(rows), EVALUATION_TOKENS):
            logits, start = self._logits(batch), 0
            for example in batch:
                part = logits[start : start + len(example.labels)]
                start += len(example.labels)
                losses.append(float(nn.functional.cross_entropy(part, example.labels)))
                exact.append(bool((part.argmax(1) == example.labels).all()))
        return losses, exact

    def examples(self, rows: Sequence[Row]) -> list[Example]:
        """Returns the inputs of the upper layers for these rows. They are cached: a row is rarely computed twice."""
        if sum(len(example.states) for example in self._example_cache.values()) > CACHED_TOKENS:
            self._example_cache.clear()
        missing = {key: row for row in rows if (key := (row["prompt"], row["completion"])) not in self._example_cache}
        for start in range(0, len(missing), 16):
            part = list(missing)[start : start + 16]
            self._example_cache.update(zip(part, self._embed([missing[key] for key in part]), strict=True))
        return [self._example_cache[row["prompt"], row["completion"]] for row in rows]

    @torch.no_grad()
    def _embed(self, rows: list[Row]) -> list[Example]:
        tokens = self.tokenize(rows)
        for row, each in zip(rows, tokens, strict=True):
            if each.prompt_length == len(each.input_ids):
                raise ValueError(f"nothing of a response is left within {self.training.max_length} tokens: {row}")
        lengths = [len(each.input_ids) for each in tokens]
        flat = torch.tensor([[number for each in tokens for number in each.input_ids]], device=self.device)
        states = self.lower(input_ids=flat, use_cache=False, **apart(lengths, self.device)).last_hidden_state[0]
        examples = []
        for part, each in zip(states.split(lengths), tokens, strict=True):
            ids = torch.tensor(each.input_ids, device=self.device)
            response = torch.arange(each.prompt_length - 1, len(ids) - 1, device=self.device)
            examples.append(Example(part.clone(), response, ids[response + 1]))
        return examples

    def _logits(self, batch: Sequence[Example]) -> Tensor:
        """Returns the logits of the tokens of all responses, in order, (sum of r, vocabulary)."""
        lengths = [len(example.states) for example in batch]
        states = torch.cat([example.states for example in batch])[None]
        last = self.model.model(inputs_embeds=states, use_cache=False, **apart(lengths, self.device)).last_hidden_state
        starts = torch.tensor([0, *lengths], device=self.device).cumsum(0)
        places = torch.cat([example.response + start for example, start in zip(batch, starts[:-1], strict=True)])
        logits: Tensor = self.model.lm_head(last[0, places])
        return logits.float()


def apart(lengths: Sequence[int], device: torch.device) -> dict[str, Tensor]:
    """Returns a block-diagonal causal mask and positions, so that rows in one sequence do not attend to each other."""
    owner = torch.repeat_interleave(torch.tensor(lengths, device=device))  # (T,)
    mask = (owner[:, None] == owner[None]).tril()  # (T, T)
    places = torch.cat([torch.arange(length, device=device) for length in lengths])
    return {"attention_mask": mask[None, None], "position_ids": places[None]}


def in_budget(examples: Sequence[Example], tokens: int) -> Iterator[list[Example]]:
    """Yields consecutive examples in groups of at most `tokens` tokens."""
    group: list[Example] = []
    tokens_left = tokens
    for example in examples:
        if group and len(example.states) > tokens_left:
            yield group
            group, tokens_left = [], tokens
        group.append(example)
        tokens_left -= len(example.states)
    if group:
        yield group
