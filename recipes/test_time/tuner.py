"""One model and one adapter, which begins anew for every prompt."""

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
from recipes.quickstart.finetune import response_losses


@dataclass(frozen=True)
class Tuned:
    """What a few steps changed for one prompt.

    Args:
        loss_before (`float`):
            Mean negative log-likelihood of the right answer's tokens, nats, before.
        loss_after (`float`):
            The same after.
        answer (`str`):
            The tuned model's own, greedy.
    """

    loss_before: float
    loss_after: float
    answer: str


class TestTimeTuner:
    """Tunes a LoRA adapter on rows picked for one prompt, measures, and puts it back to its first weights, bit by bit.

    Args:
        model_name_or_path (`str`):
            Hub id or folder of a causal language model.
        lora_r (`int`, *optional*, defaults to 8):
            Rank of the adapter, on all linear layers.
        learning_rate (`float`, *optional*, defaults to 5e-4):
            Of AdamW, whose state begins anew as well.
        batch_size (`int`, *optional*, defaults to 5):
            Rows in a step.
        max_length (`int`, *optional*, defaults to 512):
            Tokens of a row.
        max_new_tokens (`int`, *optional*, defaults to 48):
            Tokens of the answer.
        seed (`int`, *optional*, defaults to 0):
            Of the adapter's first weights and of dropout.
    """

    __test__ = False  # not a class of tests, whatever its name begins with

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
        self.trained = {name: weight for name, weight in self.model.named_parameters() if weight.requires_grad}
        self.start = {name: weight.detach().clone() for name, weight in self.trained.items()}

    def run(self, prompt: dict[str, Any], picks: Sequence[dict[str, Any]]) -> Tuned:
        """Loss before and after one pass over the picks, and the answer after; then the adapter is as before.

        Args:
            prompt (`dict`):
                A row with its completion.
            picks (`Sequence[dict]`):
                Rows with completions, most informative first.

        Raises:
            `ValueError`: A row of which nothing is left to predict within `max_length`.
        """
        batch, batches = self._batch([prompt]), self._batches(picks)
        before = self._loss(batch)
        try:
            self._train(batches)
            return Tuned(before, self._loss(batch), self._answer(prompt))
        finally:
            self.reset()

    def reset(self) -> None:
        """The adapter's first weights, exactly."""
        with torch.no_grad():
            for name, weight in self.trained.items():
                weight.copy_(self.start[name])
                weight.grad = None

    def _batches(self, rows: Sequence[dict[str, Any]]) -> list[dict[str, torch.Tensor]]:
        return [self._batch(list(rows[at : at + self.batch_size])) for at in range(0, len(rows), self.batch_size)]

    def _batch(self, rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        features = [training_features(tokens) for tokens in self.rows(rows)]
        for row, one in zip(rows, features, strict=True):
            if all(label == -100 for label in one["labels"]):
                raise ValueError(f"nothing of its completion is left within max_length: {plain_text(row)[0][:80]!r}")
        return {name: tensor.to(self.model.device) for name, tensor in self.collate(features).items()}  # each (B, T)

    def _loss(self, batch: dict[str, torch.Tensor]) -> float:
        self.model.eval()
        return float(response_losses(self.model, batch))

    def _train(self, batches: list[dict[str, torch.Tensor]]) -> None:
        set_seed(self.seed)  # dropout, if the model has any: a result must not depend on the prompts before it
        self.model.train()
        optimizer = torch.optim.AdamW(self.trained.values(), lr=self.learning_rate)
        for batch in batches:
            self.model(**batch).loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    @torch.inference_mode()
    def _answer(self, prompt: dict[str, Any]) -> str:
        self.model.eval()
        tokens = self.rows([prompt])[0]
        ids = torch.tensor([tokens.input_ids[: tokens.prompt_length]], device=self.model.device)  # (1, T)
        found = self.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            temperature=None,
            top_p=None,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        return str(self.tokenizer.decode(found[0, ids.shape[1] :], skip_special_tokens=True))
