"""A trainer small enough to train in a second: two random Llama layers with LoRA, and rows that can be told apart.

Row `i` of a pool starts with token `FIRST + i`, so the rows that a trainer trained on can be read from its batches.
"""

from __future__ import annotations

import dataclasses
import warnings

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed

from itl_hf import HiddenStates, Selector

TARGETS = [{"prompt": "row3 the a of"}, {"prompt": "row7 the of of"}, {"prompt": "row90 and to to"}]
#: Transformers 5.0 and 5.1 have no choice of the order of training.
HAS_SAMPLING_STRATEGY = "train_sampling_strategy" in {one.name for one in dataclasses.fields(TrainingArguments)}
FIRST = 8  # below it: special tokens and the words every row shares
VOCABULARY = 128


def pool(num_rows=40, text=False, **columns):
    """Tokenized rows; with `text` also the prompts that they were made from."""
    rows = [[FIRST + row, 3, 4 + row % 3, 5] for row in range(num_rows)]
    if text:
        columns["prompt"] = [f"row{row} the {('a', 'of', 'and')[row % 3]} of" for row in range(num_rows)]
    return Dataset.from_dict({"input_ids": rows, "labels": rows, **columns})


def embedder(of):
    return HiddenStates(of, tokenizer=tokenizer(), layer=2)


def select(rows, num_examples, of=None, **options):
    return Selector(embedder(of or model())).select(rows, TARGETS, num_examples, **options)


def model():
    set_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    # Dropout, so that a resumed run is only equal if its random state is restored at the right batch.
    return get_peft_model(LlamaForCausalLM(config), lora())


def lora():
    return LoraConfig(r=2, lora_dropout=0.1, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")


def tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = ["<pad>", "<bos>", "<eos>", "the", "a", "of", "and", "to"]
    words += [f"row{row}" for row in range(VOCABULARY - FIRST)]
    backend = Tokenizer(models.WordLevel({word: token for token, word in enumerate(words)}, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>")


def arguments(directory, cls=TrainingArguments, **changes):
    defaults = {
        "output_dir": str(directory),
        "per_device_train_batch_size": 2,
        "num_train_epochs": 1,
        "learning_rate": 1e-2,
        "use_cpu": True,
        "report_to": "none",
        "save_strategy": "no",
        "logging_strategy": "no",
        "disable_tqdm": True,
        "seed": 1,
        "dataloader_pin_memory": False,
    }
    return cls(**{**defaults, **changes})


def recording(base=Trainer):
    """A trainer class whose `batches` lists the pool rows of each batch that it trained on."""

    class Recording(base):
        def training_step(self, model, inputs, *args, **kwargs):
            self.__dict__.setdefault("batches", []).append((inputs["input_ids"][:, 0] - FIRST).tolist())
            return super().training_step(model, inputs, *args, **kwargs)

        @property
        def rows(self):
            return [row for batch in self.batches for row in batch]

    return Recording


def trainer(directory, dataset=None, base=Trainer, **changes):
    eval_dataset = changes.pop("eval_dataset", None)
    return recording(base)(
        model=model(),
        args=arguments(directory, **changes),
        train_dataset=pool() if dataset is None else dataset,
        eval_dataset=eval_dataset,
    )


def adapter(trainer):
    """The trained weights, by name."""
    return {name: value.detach().clone() for name, value in trainer.model.named_parameters() if value.requires_grad}


def assert_same_weights(left, right):
    assert left.keys() == right.keys()
    different = [name for name in left if not torch.equal(left[name], right[name])]
    assert not different, f"weights differ: {different}"


def without_warnings(call, *args, **kwargs):
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return call(*args, **kwargs)
