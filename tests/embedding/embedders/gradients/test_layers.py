import logging

import pytest
import torch
from torch import nn

from itl_hf.embedding.embedders.gradients import Gradients
from itl_hf.embedding.embedders.gradients.layers import coverage, find_layers
from tests.embedding.embedders.gradients.models import ROWS, add_adapter, tokenizer
from tests.tiny_models import tiny_model

BLOCK = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def names(model, modules="all"):
    return [layer.name for layer in find_layers(model, modules)]


@pytest.mark.parametrize(("architecture", "count"), [("llama", 21), ("gpt2", 12), ("qwen2", 21)])
def test_all_linear_layers_but_the_head(architecture, count):
    model = tiny_model(architecture)
    layers = find_layers(model, "all")
    assert len(layers) == count
    assert not any("lm_head" in layer.name for layer in layers)
    for layer in layers:
        shape = (layer.inputs, layer.outputs) if architecture == "gpt2" else (layer.outputs, layer.inputs)
        assert tuple(layer.module.weight.shape) == shape


def test_names_are_compared_from_their_end_part_by_part():
    model = tiny_model()
    assert len(names(model, ["v_proj", "mlp.down_proj"])) == 6
    assert names(model, ["layers.1.mlp.up_proj"]) == ["model.layers.1.mlp.up_proj"]
    with pytest.raises(ValueError, match="no linear layer is called 'proj'"):
        names(model, ["proj"])
    with pytest.raises(ValueError, match="no linear layer is called 'fc1'"):
        names(model, ["v_proj", "fc1"])


def test_trained_adapters_replace_their_layers():
    base = tiny_model()
    model = add_adapter(base)
    layers = find_layers(base, "all")
    assert len(layers) == 3 * 3 * 2
    assert all(layer.adapter for layer in layers)
    assert len(names(base, ["v_proj"])) == 6
    assert len(names(base, ["v_proj.base_layer"])) == 3
    with model.disable_adapter():
        assert len(names(base)) == 21
    model.merge_adapter()
    assert len(names(base)) == 21


def test_untrained_adapters_are_ignored():
    base = tiny_model()
    add_adapter(base, is_trained=False)
    assert len(names(base)) == 21
    assert sum(name.endswith("base_layer") for name in names(base)) == 9


def test_layers_that_read_the_same_share_a_group():
    groups = {layer.name: layer.group for layer in find_layers(tiny_model(), "all")}
    attention = {groups[f"model.layers.0.self_attn.{name}"] for name in BLOCK[:4]}
    assert len(attention) == 1
    assert len(set(groups.values())) == 6
    base = tiny_model()
    add_adapter(base)
    groups = {layer.name: layer.group for layer in find_layers(base, "all")}
    q, v = (f"model.layers.0.self_attn.{name}.lora_" for name in ("q_proj", "v_proj"))
    assert groups[f"{q}A.default"] == groups[f"{v}A.default"] != groups[f"{q}B.default"]


def test_coverage():
    model = tiny_model()
    layers = find_layers(model, ["v_proj"])
    weights = sum(layer.module.weight.numel() for layer in layers)
    assert coverage(model, layers) == weights / sum(p.numel() for p in model.parameters())
    assert Gradients(model, tokenizer=tokenizer(), modules=["v_proj"]).coverage() == coverage(model, layers)


def test_experts_are_left_out_with_a_warning(caplog):
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=400,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_local_experts=4,
        max_position_embeddings=128,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = MixtralForCausalLM(config).eval()
    with caplog.at_level(logging.WARNING):
        gradients = Gradients(model, tokenizer=tokenizer(), dimension=128, rank=8)
    experts = sum(p.numel() for name, p in model.named_parameters() if "experts" in name)
    share = round(100 * experts / sum(p.numel() for p in model.parameters()))
    assert f"{share}% of the parameters are those of experts" in caplog.text
    assert not any("experts" in layer.name for layer in gradients.layers)
    together = gradients.embed(ROWS).features
    torch.testing.assert_close(
        together, torch.cat([gradients.embed([row]).features for row in ROWS]), atol=1e-5, rtol=0
    )


def test_a_dense_model_logs_no_warning(caplog):
    with caplog.at_level(logging.WARNING):
        Gradients(tiny_model(), tokenizer=tokenizer()).embed(ROWS)
    assert not caplog.records


def test_a_layer_without_a_dimension_for_positions_is_left_out_or_named_in_the_error():
    class Odd(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.extra = inner, nn.Linear(32, 1)

        def forward(self, x):
            return self.inner(x) + self.extra(x[:, :1])

    model = tiny_model()
    model.model.layers[0].mlp = Odd(model.model.layers[0].mlp)
    with pytest.raises(
        ValueError, match=r"modules: .*such as model.layers.0.mlp.extra\): it works on a tensor of shape"
    ):
        Gradients(model, tokenizer=tokenizer(), modules=["extra"])
    others = Gradients(model, tokenizer=tokenizer())
    assert not [layer for layer in others.layers if "extra" in layer.name]
    others.embed(ROWS)


def test_a_model_without_linear_layers():
    class Bare(nn.Module):
        def get_output_embeddings(self):
            return None

    with pytest.raises(ValueError, match="Bare has no linear layers"):
        find_layers(Bare(), "all")
