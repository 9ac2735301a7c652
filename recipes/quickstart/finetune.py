"""Trains LoRA adapters on picked rows with the unchanged `transformers.Trainer` and measures the held-out loss."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from tqdm.auto import tqdm
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
    set_seed,
)

from itl_hf import Selection, attach
from itl_hf.text import RowTokenizer, training_features
from recipes.quickstart.settings import Settings


class FineTuner:
    """Trains an adapter on a selection and measures its held-out loss.

    Model, budget, seed and schedule are the same for every selection.

    Args:
        settings (`Settings`):
            Model, adapter and training options.
        pool (`datasets.Dataset`):
            The rows that were selected from.
        held_out (`datasets.Dataset`):
            Labelled rows with a column `task`.
    """

    def __init__(self, settings: Settings, pool: Dataset, held_out: Dataset) -> None:
        self.settings = settings
        self.path = settings.model_path()
        self.tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(self.path)
        self.tokenizer.padding_side = "right"
        if self.tokenizer.pad_token is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
        self.collate = DataCollatorForSeq2Seq(self.tokenizer, padding=True)
        self.tasks: list[str] = held_out["task"]
        self.pool = Dataset.from_list(self._features(pool))
        self.held_out = self._features(held_out)
        empty_rows = [
            number for number, row in enumerate(self.held_out) if all(label == -100 for label in row["labels"])
        ]
        if empty_rows:
            raise ValueError(
                f"held-out row {empty_rows[0]} has no response left within max_length={settings.max_length}; "
                "raise max_length"
            )

    def loss_before_training(self) -> dict[str, float]:
        """Returns the held-out loss of the model without training."""
        return self.held_out_loss(self._model())

    def train(self, selection: Selection, adapter_dir: Path | None = None) -> dict[str, float]:
        """Trains on each pick once, saves the adapter if a folder is given, and returns the held-out loss."""
        settings = self.settings
        set_seed(settings.seed)  # makes the adapter's first weights the same for every selection
        base_model = self._model()
        config = LoraConfig(
            r=settings.lora_r,
            lora_alpha=2 * settings.lora_r,
            target_modules=upper_linear_modules(base_model, settings.first_lora_layer),
            task_type="CAUSAL_LM",
        )
        model = get_peft_model(base_model, config)
        trainer = Trainer(model, self._arguments(), train_dataset=self.pool, data_collator=self.collate)
        attach(trainer, selection, order="shuffled", seed=settings.seed)
        trainer.train()
        loss = self.held_out_loss(model)
        if adapter_dir is not None:
            model.save_pretrained(str(adapter_dir))
        return loss

    def held_out_loss(self, model: torch.nn.Module) -> dict[str, float]:
        """Returns the mean response loss of each task and, as `mean`, the unweighted mean over tasks."""
        model.eval()
        by_task: dict[str, list[float]] = {task: [] for task in self.tasks}
        starts = range(0, len(self.held_out), self.settings.batch_size)
        for start in tqdm(starts, desc="held-out loss", unit="batch", leave=False):
            batch = slice(start, start + self.settings.batch_size)
            losses = response_losses(model, self.collate(self.held_out[batch]))
            for task, loss in zip(self.tasks[batch], losses.tolist(), strict=True):
                by_task[task].append(loss)
        means = {task: sum(losses) / len(losses) for task, losses in by_task.items()}
        return {**means, "mean": sum(means.values()) / len(means)}

    def _model(self) -> PreTrainedModel:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.path, dtype=torch.float32)
        model.to("cuda" if torch.cuda.is_available() else "cpu")  # type: ignore[arg-type]  # a decorated method
        return model

    def _features(self, rows: Dataset) -> list[dict[str, Any]]:
        tokens = RowTokenizer(self.tokenizer, max_length=self.settings.max_length)(rows.to_list())
        return [training_features(row, completion_only=True) for row in tokens]

    def _arguments(self) -> TrainingArguments:
        settings = self.settings
        return TrainingArguments(
            output_dir=str(settings.output / "trainer"),
            per_device_train_batch_size=settings.batch_size,
            num_train_epochs=1,
            learning_rate=settings.learning_rate,
            lr_scheduler_type="linear",
            seed=settings.seed,
            dataloader_pin_memory=torch.cuda.is_available(),
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
        )


def upper_linear_modules(model: PreTrainedModel, share: float) -> list[str]:
    """Returns the names of the linear modules of the layers from this share of the depth on.

    The layers below the first need no backward pass.
    """
    first = round(share * model.config.num_hidden_layers)
    layers = [
        (name, re.search(r"\.(\d+)\.", name))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    ]
    return [name for name, layer in layers if layer is not None and int(layer[1]) >= first]


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
