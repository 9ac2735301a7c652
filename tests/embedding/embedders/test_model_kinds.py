"""Models that once failed: they work, or are refused with a reason."""

from __future__ import annotations

import contextlib

import pytest
import torch
from accelerate import cpu_offload
from peft import LoraConfig, get_peft_model
from transformers import ProcessorMixin

from itl_hf import Gradients, HiddenStates
from tests.embedding.embedders.architectures import build
from tests.tiny_models import tiny_model, tiny_tokenizer

ROWS = [{"text": "the sum of two and three is five"}, {"text": "reverse red"}]
EMBEDDERS = {
    "hidden states": HiddenStates,
    "gradients": lambda model, **options: Gradients(model, labels="whole", dimension=64, **options),
}


def embed(embedder, model, **options):
    embedded = EMBEDDERS[embedder](model, tokenizer=tiny_tokenizer(), **options)
    return embedded.embed_prepared(embedded.prepare(ROWS)).features


@pytest.mark.parametrize("embedder", EMBEDDERS)
@pytest.mark.parametrize("pad_id", [400, -1, None, 10**6])
def test_a_padding_id_outside_the_vocabulary_is_not_used(embedder, pad_id):
    model = tiny_model("llama")
    expected = embed(embedder, model)
    model.config.pad_token_id = pad_id
    torch.testing.assert_close(embed(embedder, model), expected)


@pytest.mark.parametrize("embedder", EMBEDDERS)
@pytest.mark.parametrize(
    "options",
    [{"target_modules": ["q_proj", "embed_tokens"]}, {"target_modules": ["q_proj"], "trainable_token_indices": [5, 6]}],
)
def test_adapters_on_the_embeddings(embedder, options):
    expected = embed(embedder, tiny_model("llama"))
    model = get_peft_model(tiny_model("llama"), LoraConfig(task_type="CAUSAL_LM", **options))
    torch.testing.assert_close(embed(embedder, model), expected, rtol=1e-4, atol=1e-5)


def test_offloaded_embeddings():
    expected = embed("hidden states", tiny_model("llama", head=False))
    model = cpu_offload(tiny_model("llama", head=False), execution_device=torch.device("cpu"))
    torch.testing.assert_close(embed("hidden states", model), expected)


@pytest.mark.parametrize("layer", [0, 1, 0.75, -1, [1, -1]])
@pytest.mark.parametrize("name", ["gemma3n_text", "opt", "llama4_text", "mllama"])
def test_hidden_states_are_those_of_the_model(name, layer):
    model = build(name)
    hidden = HiddenStates(model, tokenizer=tiny_tokenizer(), layer=layer)
    for row in ROWS:
        ids = torch.tensor([hidden.prepare([row])[0].input_ids])
        with torch.no_grad():
            states = hidden.backbone.model(input_ids=ids, output_hidden_states=True).hidden_states
        streams = [states[min(number, len(states) - 1)] for number in hidden.layers]
        streams = [state[model.config.altup_active_idx] if state.dim() == 4 else state for state in streams]
        expected = torch.cat([state[0].mean(0) for state in streams])
        torch.testing.assert_close(hidden.embed([row])[0], expected, rtol=1e-4, atol=1e-5)
    assert hidden.embed(ROWS).shape == (2, hidden.dimension)


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_autocast_and_the_default_type_change_nothing(embedder):
    expected = embed(embedder, tiny_model("llama"))
    model = tiny_model("llama")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(embed(embedder, model), expected)
        assert torch.is_autocast_enabled("cpu")
    torch.set_default_dtype(torch.float64)
    with contextlib.ExitStack() as stack:
        stack.callback(torch.set_default_dtype, torch.float32)
        features = embed(embedder, model)
        assert features.dtype == torch.float32
        assert torch.equal(features, expected)
        assert torch.get_default_dtype() == torch.float64


class Processor(ProcessorMixin):
    """A processor of a tokenizer alone."""

    def __init__(self, tokenizer, chat_template=None):
        self.tokenizer, self.chat_template = tokenizer, chat_template


def test_of_a_processor_the_tokenizer_is_used():
    tokenizer = tiny_tokenizer()
    assert HiddenStates(tiny_model("llama"), tokenizer=Processor(tokenizer)).tokenizer is tokenizer
    without_template = tiny_tokenizer(chat_template=False)
    used = HiddenStates(tiny_model("llama"), tokenizer=Processor(without_template, "{{ messages }}")).tokenizer
    assert used.chat_template == "{{ messages }}"
    assert without_template.chat_template is None
