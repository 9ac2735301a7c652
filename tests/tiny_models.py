"""Tiny models with random weights and a real tokenizer trained in-process: nothing is downloaded.

`tiny_model("llama")` has a language-model head; `head=False` gives the bare encoder or decoder.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BertForMaskedLM,
    DistilBertForMaskedLM,
    GPT2LMHeadModel,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2ForCausalLM,
    RobertaForMaskedLM,
    T5ForConditionalGeneration,
)

SPECIAL_TOKENS = ["<s>", "<pad>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
BOS, PAD, EOS, UNK = range(4)
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SENTENCES = [
    "What is the sum of two and three? The sum is five.",
    "Reverse the order of these words: red green blue.",
    "The capital of France is Paris, and the capital of Italy is Rome.",
    "Simplify the fraction 12/18 as far as possible.",
    "A small dog ran across the wide street while it was raining.",
    "Write a function that returns the largest number in a list.",
]
ARCHITECTURES = ("llama", "gpt2", "qwen2", "bert", "distilbert", "roberta", "t5")
CAUSAL = ("llama", "gpt2", "qwen2")


@functools.cache
def _tokenizer_json(bos_and_eos: bool) -> str:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL_TOKENS, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if bos_and_eos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", BOS), ("</s>", EOS)]
        )
    return tokenizer.to_str()


def tiny_tokenizer(
    *, chat_template: bool = True, pad_token: bool = True, bos_and_eos: bool = False, padding_side: str = "right"
) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer of 400 tokens or fewer; every string has tokens in it.

    `bos_and_eos` puts `<s> ... </s>` around plain text, as the tokenizers of encoders do.
    """
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_tokenizer_json(bos_and_eos)),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="<pad>" if pad_token else None,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
        padding_side=padding_side,
    )
    tokenizer.chat_template = CHAT_TEMPLATE if chat_template else None
    return tokenizer


def tiny_model(
    architecture: str = "llama", *, head: bool = True, layers: int = 3, seed: int = 0, **config: Any
) -> PreTrainedModel:
    """A model of `layers` layers of width 32 with a context of 128 tokens, in evaluation mode.

    Args:
        architecture: one of `ARCHITECTURES`.
        head: whether to keep the language-model head (T5: the decoder and the head).
        layers: blocks.
        seed: of the random weights; torch's global generator is left as it was.
        config: further entries of the model's config.
    """
    model_class, settings = _architecture(architecture, layers)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = model_class(model_class.config_class(**{**settings, **config}))
        for parameter in model.parameters():
            # The usual initialisation is so small that every layer is nearly the identity: tests could not fail.
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    model.tie_weights()
    model.eval()
    if head:
        return model
    return model.get_encoder() if architecture == "t5" else model.base_model  # type: ignore[return-value]


def _architecture(name: str, layers: int) -> tuple[type[PreTrainedModel], dict[str, Any]]:
    tokens = {"vocab_size": 400, "bos_token_id": BOS, "pad_token_id": PAD, "eos_token_id": EOS}
    wide = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 4}
    usual = {**tokens, **wide, "max_position_embeddings": 128}
    table: dict[str, tuple[type[PreTrainedModel], dict[str, Any]]] = {
        "llama": (LlamaForCausalLM, {**usual, "num_key_value_heads": 2}),
        "qwen2": (Qwen2ForCausalLM, {**usual, "num_key_value_heads": 2, "tie_word_embeddings": True}),
        "gpt2": (GPT2LMHeadModel, {**tokens, "n_embd": 32, "n_layer": layers, "n_head": 4, "n_positions": 128}),
        "bert": (BertForMaskedLM, usual),
        # RoBERTa's positions start after the padding id: two rows of the table hold no position.
        "roberta": (RobertaForMaskedLM, {**usual, "max_position_embeddings": 128 + PAD + 1, "type_vocab_size": 1}),
        "distilbert": (
            DistilBertForMaskedLM,
            {**tokens, "dim": 32, "hidden_dim": 64, "n_layers": layers, "n_heads": 4, "max_position_embeddings": 128},
        ),
        "t5": (
            T5ForConditionalGeneration,
            {**tokens, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_layers": layers, "num_heads": 4},
        ),
    }
    if name not in table:
        raise ValueError(f"architecture must be one of {ARCHITECTURES}, got {name!r}.")
    model_class, settings = table[name]
    if name == "t5":
        settings["decoder_start_token_id"] = PAD
    return model_class, settings
