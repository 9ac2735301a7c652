"""What a fingerprint sees of a model's weights, and that it reads them once."""

import copy

import pytest
import torch

from itl_hf.embedding import HiddenStates
from itl_hf.embedding.embedders import weights_hash
from itl_hf.embedding.embedders.weights_hash import WeightsHash
from tests.tiny_models import tiny_model, tiny_tokenizer


@pytest.fixture
def reads(monkeypatch):
    """Grows by the number of tensors read whole."""
    reads = []
    read = weights_hash._sum
    monkeypatch.setattr(weights_hash, "_sum", lambda tensor: reads.append(1) or read(tensor))
    return reads


def prints(model, layer=2):
    hidden = HiddenStates(model, tokenizer=tiny_tokenizer(), layer=layer)
    return lambda: hidden.fingerprint()["weights"]


def test_unchanged_weights_are_read_once(reads):
    model = tiny_model()
    fingerprint = prints(model)
    first = fingerprint()
    once = len(reads)
    assert once > 0
    assert fingerprint() == first
    model.train()
    model(torch.ones(1, 4, dtype=torch.long)).logits.sum().backward()  # gradients are not weights
    assert fingerprint() == first
    assert len(reads) == once


def test_equal_weights_give_equal_hashes(tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path / "here")
    others = [copy.deepcopy(model), type(model).from_pretrained(tmp_path / "here")]
    assert {WeightsHash(other)() for other in [model, *others]} == {WeightsHash(model)()}
    assert WeightsHash(tiny_model(seed=1))() != WeightsHash(model)()


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("foreach", [False, True])
def test_a_step_of_an_optimizer_changes_the_hash(optimizer, foreach, reads):
    model = tiny_model()
    fingerprint = prints(model)
    hashes = {fingerprint()}
    steps = optimizer(model.parameters(), lr=1e-6, foreach=foreach)
    for step in range(2):
        model(torch.ones(1, 4, dtype=torch.long)).logits.sum().backward()
        steps.step()
        hashes.add(fingerprint())
        assert len(hashes) == step + 2


@pytest.mark.parametrize("assign", [False, True])
def test_loading_a_state_changes_the_hash_and_loading_the_old_one_restores_it(assign):
    model = tiny_model()
    fingerprint = prints(model)
    before, original_state = fingerprint(), copy.deepcopy(model.state_dict())
    other = {name: value.clone() for name, value in original_state.items()}
    other["model.layers.0.mlp.up_proj.weight"][3, 5] += 1e-3
    model.load_state_dict(other, assign=assign)
    assert fingerprint() != before
    model.load_state_dict(original_state, assign=assign)
    assert fingerprint() == before


def test_a_single_weight_up_to_the_layer_changes_the_hash():
    model = tiny_model()
    fingerprint = prints(model)
    before = fingerprint()
    with torch.no_grad():
        model.model.layers[2].mlp.up_proj.weight[3, 5] += 1.0  # beyond the layer
        assert fingerprint() == before
        model.model.layers[1].mlp.up_proj.weight[3, 5] += 1e-3
    assert fingerprint() != before


def test_many_writes_that_bypass_the_version_counter_change_the_hash():
    model = tiny_model()
    fingerprint = prints(model)
    before = fingerprint()
    weight = model.model.layers[0].self_attn.q_proj.weight
    version = weight._version
    weight.data += 1e-3  # as peft merges an adapter, and DeepSpeed steps
    assert weight._version == version
    assert fingerprint() != before


def test_buffers_that_are_saved_change_the_hash():
    model = tiny_model()
    fingerprint = prints(model)
    before = fingerprint()
    model.model.layers[0].register_buffer("shift", torch.zeros(2))
    with_buffer = fingerprint()
    assert with_buffer != before
    model.model.layers[0].shift += 1
    assert fingerprint() not in (before, with_buffer)
    model.model.layers[1].register_buffer("cache", torch.zeros(2), persistent=False)
    assert fingerprint() == fingerprint() != before


def test_the_config_changes_the_hash():
    plain, other = (prints(tiny_model(rms_norm_eps=eps))() for eps in (1e-6, 1e-2))
    assert plain != other
