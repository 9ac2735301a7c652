"""The tiny models that gradients are tested on."""

from __future__ import annotations

import functools

import peft
import torch

from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

ROWS = [
    {"prompt": "What is the sum of two and three?", "completion": " The sum is five."},
    {"prompt": "A dog", "completion": " ran across the wide street while it was raining."},
    {"prompt": SENTENCES[1], "completion": " blue"},
    {"prompt": "Paris", "completion": " is the capital of France."},
    {"prompt": "Simplify the fraction", "completion": " 12/18."},
]
#: `mixed` names base layers beside each other of which only some share an input.
KINDS = ("llama", "gpt2", "qwen2", "lora", "lora-gpt2", "checkpointing", "reentrant", "gemma2")


def add_adapter(model, is_trained=True, **config):
    config = {"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "lora_alpha": 8, **config}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return peft.get_peft_model(model, peft.LoraConfig(init_lora_weights=not is_trained, lora_dropout=0.1, **config))


@functools.cache
def model_of(kind, dtype=torch.float32):
    return make(kind).to(dtype).eval()


def make(kind):
    if kind == "lora":
        return add_adapter(tiny_model("llama"))
    if kind == "lora-gpt2":
        return add_adapter(tiny_model("gpt2"), target_modules=["c_attn", "c_proj"], fan_in_fan_out=True)
    if kind == "gemma2":
        return gemma2()
    if kind in ("checkpointing", "reentrant"):
        model = tiny_model("llama")
        model.gradient_checkpointing_enable({"use_reentrant": kind == "reentrant"})
        return model
    return tiny_model(kind)


def gemma2():
    """Soft-capped logits, and large enough for the cap to matter."""
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=128,
        final_logit_softcapping=5.0,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Gemma2ForCausalLM(config)
        for parameter in model.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.eval()


tokenizer = functools.cache(tiny_tokenizer)
