"""Trains one LoRA adapter for one prompt at a time and resets it after each prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedTokenizerBase,
    set_seed,
)

from itl_hf.text import RowTokenizer, plain_text, training_features


@dataclass(frozen=True)
class TuningOutcome:
    """Losses and answer for one prompt.

    Args:
        loss_before (`float`):
            Mean negative log-likelihood of the right answer's tokens before training, in nats.
        loss_after (`float`):
            The same after training.
        answer (`str`):
            The answer of the model after training, decoded greedily.
    """

    loss_before: float
    loss_after: float
    answer: str


class TestTimeTuner:
    """Trains a LoRA adapter on rows picked for one prompt, measures the loss, and resets the adapter exactly.

    Args:
        model_name_or_path (`str`):
            Hub id or folder of a causal language model.
        lora_r (`int`, *optional*, defaults to 8):
            Rank of the adapter, which is on all linear layers.
        learning_rate (`float`, *optional*, defaults to 5e-4):
            Learning rate of AdamW, whose state is new for each prompt as well.
        batch_size (`int`, *optional*, defaults to 5):
            Rows in a gradient step.
        max_length (`int`, *optional*, defaults to 512):
            Longer rows are cut to this many tokens.
        max_new_tokens (`int`, *optional*, defaults to 48):
            Largest number of tokens of the answer.
        seed (`int`, *optional*, defaults to 0):
            Seed of the adapter's first weights and of dropout.
    """

    __test__ = False  # pytest would collect this class because of its name

    def __init__(
        self,
        model_name_or_path: str,
        *,
        lora_r: int = 8,
        learning_rate: float = 5e-4,
        batch_size: int = 5,
        max_length: int = 512,
        max_new_tokens: int = 48,
        seed: int = 0,
    ) -> None:
        self.learning_rate, self.batch_size, self.seed = learning_rate, batch_size, seed
        self.max_new_tokens = max_new_tokens
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(model_name_or_path)
        self.tokenizer.padding_side = "right"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.collate = DataCollatorForSeq2Seq(self.tokenizer, padding=True)
        self.rows = RowTokenizer(self.tokenizer, max_length=max_length)
        base: Any = AutoModelForCausalLM.from_pretrained(model_name_or_path, dtype=torch.float32)
        base.to("cuda" if torch.cuda.is_available() else "cpu")
        set_seed(seed)
        config = LoraConfig(r=lora_r, lora_alpha=2 * lora_r, target_modules="all-linear", task_type="CAUSAL_LM")
        self.model: PeftModel = get_peft_model(base, config)
        self.trainable_weights = {
            name: weight for name, weight in self.model.named_parameters() if weight.requires_grad
        }
        self.first_weights = {name: weight.detach().clone() for name, weight in self.trainable_weights.items()}

    def run(self, prompt: dict[str, Any], picks: Sequence[dict[str, Any]]) -> TuningOutcome:
        """Measures, trains on the picks once, measures again, answers, and resets the adapter.

        Args:
            prompt (`dict`):
                A row with a completion.
            picks (`Sequence[dict]`):
                Rows with completions, most informative first.

        Raises:
            `ValueError`: If nothing of a row's completion is left within `max_length`.
        """
        batch, batches = self._batch([prompt]), self._batches(picks)
        before = self._loss(batch)
        try:
            self._train(batches)
            return TuningOutcome(before, self._loss(batch), self._answer(prompt))
        finally:
            self.reset()

    def reset(self) -> None:
        """Resets the adapter exactly to its first weights."""
        with torch.no_grad():
            for name, weight in self.trainable_weights.items():
                weight.copy_(self.first_weights[name])
                weight.grad = None

    def _batches(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
        return [
            self._batch(list(rows[start : start + self.batch_size])) for start in range(0, len(rows), self.batch_size)
        ]

    def _batch(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        features = [training_features(tokens) for tokens in self.rows(rows)]
        for row, row_features in zip(rows, features, strict=True):
            if all(label == -100 for label in row_features["labels"]):
                raise ValueError(f"nothing of its completion is left within max_length: {plain_text(row)[0][:80]!r}")
        return {name: tensor.to(self.model.device) for name, tensor in self.collate(features).items()}  # each (B, T)

    def _loss(self, batch: dict[str, torch.Tensor]) -> float:
        self.model.eval()
        return float(response_losses(self.model, batch))

    def _train(self, batches: list[dict[str, torch.Tensor]]) -> None:
        set_seed(self.seed)  # for dropout: a result must not depend on the prompts before it
        self.model.train()
        optimizer = torch.optim.AdamW(self.trainable_weights.values(), lr=self.learning_rate)
        for batch in batches:
            self.model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    @torch.inference_mode()
    def _answer(self, prompt: dict[str, Any]) -> str:
        self.model.eval()
        tokens = self.rows([prompt])[0]
        ids = torch.tensor([tokens.input_ids[: tokens.prompt_length]], device=self.model.device)  # (1, T)
        output_ids = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return str(self.tokenizer.decode(output_ids[0, ids.shape[1] :], skip_special_tokens=True))


@torch.inference_mode()
def response_losses(model: torch.nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Returns the mean negative log-likelihood of each row's response tokens, (B,)."""
    device = next(model.parameters()).device
    batch = {name: tensor.to(device) for name, tensor in batch.items()}
    logits = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits  # (B, T, V)
    labels = batch["labels"][:, 1:]  # (B, T - 1)
    losses = torch.nn.functional.cross_entropy(
        logits[:, :-1].float().transpose(1, 2), labels, ignore_index=-100, reduction="none"
    )  # (B, T - 1), zero where the label is ignored
    return losses.sum(1) / (labels != -100).sum(1)
