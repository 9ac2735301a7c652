"""Which layers' gradients can be taken is found out on a few tokens; what is taken equals autograd."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from itl_hf import Gradients
from itl_hf.embedding.embedders.gradients.layers import coverage
from itl_hf.embedding.embedders.numerics import own_precision
from itl_hf.text import RowTokenizer
from tests.embedding.embedders.architectures import build
from tests.tiny_models import tiny_model, tiny_tokenizer

ROWS = [{"text": "the sum of two and three is five"}, {"text": "reverse red"}]
CAUSAL = (
    "llama",
    "deepseek_v2",
    "deepseek_v3",
    "minicpm3",
    "phimoe",
    "llama4_text",
    "mllama",
    "mamba",
    "jamba",
    "modernbert-decoder",
    "gemma3",
    "gemma3n_text",
    "smolvlm",
    "ctrl",
    "gpt2",
)


#: Models that compute a part in float32 whatever the type of their weights.
SINGLE_PRECISION = ("deepseek_v2", "deepseek_v3", "minicpm3", "phimoe", "jamba")


def exact_gradients(embedder, row):
    """The gradient of a row's mean loss with respect to the layers' weights, by autograd through the whole model."""
    ids = torch.tensor([RowTokenizer(tiny_tokenizer())([row])[0].input_ids])
    with own_precision():
        logits = embedder.model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
    loss = functional.cross_entropy(logits[0, :-1], ids[0, 1:])
    weights = [layer.module.weight.requires_grad_() for layer in embedder.layers]
    return torch.autograd.grad(loss, weights), loss.detach()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", CAUSAL)
def test_the_sketch_is_that_of_the_exact_gradients(name, dtype):
    """The gradients of all layers, by autograd, are sketched one after the other and added up."""
    if dtype == torch.float64 and name in SINGLE_PRECISION:
        pytest.skip("does not run in float64")
    options = {"labels": "whole", "normalize": False, "dimension": 512}
    embedder = Gradients(build(name).to(dtype), tokenizer=tiny_tokenizer(), **options)
    embedded = embedder.embed(ROWS)
    for row, features, loss in zip(ROWS, embedded.features, embedded.columns["loss"], strict=True):
        exact, exact_loss = exact_gradients(embedder, row)
        torch.testing.assert_close(loss.double(), exact_loss.double(), rtol=1e-5, atol=0)
        expected = torch.zeros(embedder.dimension, dtype=torch.float64)
        for layer, gradient in zip(embedder.layers, exact, strict=True):
            whole = (gradient.T if isinstance(layer.module, Conv1D) else gradient).double()
            left = embedder.sketch.outputs(layer, whole.T[None])  # (1, d_in, k_out)
            identity = torch.eye(layer.inputs, dtype=torch.float64)
            right = embedder.sketch.columns(layer, embedder.sketch.inputs(layer, identity))
            expected += embedder.sketch.fold(left.transpose(1, 2) @ right[None])[0]
        assert (features.double() - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize(("name", "absent"), [("mamba", "dt_proj"), ("gemma3", "vision_tower"), ("jamba", "dt_proj")])
def test_layers_that_no_gradient_reaches_are_left_out_and_do_not_count(name, absent, caplog):
    model = build(name)
    embedder = Gradients(model, tokenizer=tiny_tokenizer(), labels="whole")
    assert not [layer.name for layer in embedder.layers if absent in layer.name]
    assert embedder.coverage() == coverage(model, embedder.layers)
    assert sum("layers whose gradients are not taken" in record.message for record in caplog.records) == 1
    ran = set()
    for layer in embedder.layers:
        layer.module.register_forward_hook(lambda *_, name=layer.name: ran.add(name))
    embedder.embed(ROWS)
    assert ran == {layer.name for layer in embedder.layers}


def test_a_named_layer_that_cannot_be_taken_is_an_error():
    with pytest.raises(ValueError, match=r"modules: MambaForCausalLM has layers .*dt_proj.*does not run"):
        Gradients(build("mamba"), tokenizer=tiny_tokenizer(), modules=["dt_proj", "in_proj"])


@pytest.mark.parametrize("name", ["bert", "electra", "paligemma"])
def test_models_in_which_a_token_sees_later_ones_are_refused(name):
    with pytest.raises(TypeError, match=r"gradients need a causal language model: in .* a token sees those after it"):
        Gradients(build(name), tokenizer=tiny_tokenizer())


def test_a_bert_that_is_a_decoder_is_accepted():
    model = build("bert", is_decoder=True)
    assert torch.isfinite(Gradients(model, tokenizer=tiny_tokenizer(), labels="whole").embed(ROWS).features).all()


def test_a_weight_that_is_used_twice_is_left_out(caplog):
    model = tiny_model("llama")
    first, second = (model.model.layers[i].mlp.up_proj for i in (0, 1))
    second.weight = first.weight
    embedder = Gradients(model, tokenizer=tiny_tokenizer(), labels="whole")
    assert [layer.name for layer in embedder.layers if "up_proj" in layer.name] == ["model.layers.2.mlp.up_proj"]
    assert "its weight is that of another module" in caplog.text


def test_the_trial_leaves_the_model_as_it_was():
    model = tiny_model("llama").train()
    model.model.layers[0].requires_grad_(False)
    before = [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    Gradients(model, tokenizer=tiny_tokenizer())
    assert [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()] == before
    assert all(module.training for module in model.modules())
    assert not any(module._forward_hooks for module in model.modules())
