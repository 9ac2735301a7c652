"""Weights in 4 and 8 bits: near the features of the full weights, and never taken for them."""

import importlib.util

import pytest
import torch
import transformers

from itl_hf import HiddenStates, Selector
from itl_hf.embedding.embedders import weights_hash
from itl_hf.embedding.embedders.model_loading import load_model
from itl_hf.embedding.embedders.quantization import quantization_of, quantization_options
from itl_hf.hub.public_record import public_fingerprint
from itl_hf.hub.reproduce import embedder_call
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

ROWS = [{"prompt": text} for text in SENTENCES]
needs_bitsandbytes = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model(hidden_size=64, intermediate_size=128).save_pretrained(folder)
    return folder


def hidden_states(folder, **options):
    return HiddenStates(str(folder), tokenizer=tiny_tokenizer(), **options)


@pytest.fixture(params=["4bit", "8bit"])
def quantization(request):
    return request.param


def test_bitsandbytes_is_named_where_it_is_missing(folder, monkeypatch, quantization):
    find_spec = importlib.util.find_spec
    hide = lambda name, *rest: None if name == "bitsandbytes" else find_spec(name, *rest)
    monkeypatch.setattr(importlib.util, "find_spec", hide)
    with pytest.raises(ImportError, match=f"{quantization}.*pip install bitsandbytes"):
        hidden_states(folder, quantization=quantization)


def test_what_cannot_be_quantized_is_refused(folder):
    with pytest.raises(ValueError, match="one of 4bit, 8bit, got '4'"):
        hidden_states(folder, quantization="4")
    with pytest.raises(ValueError, match="given as an object"):
        HiddenStates(tiny_model(), tokenizer=tiny_tokenizer(), quantization="8bit")


def test_options_of_each_quantization():
    device = torch.device("cpu")
    four = quantization_options("4bit", "bfloat16", device)["quantization_config"]
    assert (four.load_in_4bit, four.bnb_4bit_quant_type, four.bnb_4bit_compute_dtype) == (True, "nf4", torch.bfloat16)
    eight = quantization_options("8bit", "bfloat16", device)["quantization_config"]
    assert (eight.load_in_4bit, eight.load_in_8bit) == (False, True)


def test_the_name_of_a_models_own_quantization():
    model = tiny_model()
    assert quantization_of(model) is None
    model.config.quantization_config = {"quant_method": "gptq", "bits": 4}
    assert quantization_of(model) == "gptq"
    model.config.quantization_config = transformers.BitsAndBytesConfig(load_in_8bit=True)
    assert quantization_of(model) == "8bit"


def test_the_card_names_it():
    entries = {"embedder": "hidden_states", "model": "a/b", "revision": "c0", "layer": "1", "quantization": "8bit"}
    assert public_fingerprint(entries)["quantization"] == "8bit"
    assert "quantization='8bit'" in embedder_call(entries)[1]
    assert "quantization" not in embedder_call(entries | {"quantization": "gptq"})[1]


@needs_bitsandbytes
def test_features_are_near_those_of_the_full_weights(folder, monkeypatch, quantization):
    plain, quantized = hidden_states(folder), hidden_states(folder, quantization=quantization)
    features, expected = quantized.embed(ROWS), plain.embed(ROWS)
    assert not torch.allclose(features, expected, atol=1e-3)
    assert torch.cosine_similarity(features, expected).min() > (0.9 if quantization == "4bit" else 0.99)
    again = hidden_states(folder, quantization=quantization)
    # Before a pass and after one, which reorders the weights on some CPUs and moves their scales.
    assert quantized.fingerprint() == again.fingerprint() != plain.fingerprint()
    assert quantized.fingerprint()["quantization"] == quantization
    assert "quantization" not in plain.fingerprint()
    reads = []
    monkeypatch.setattr(weights_hash, "_sum", lambda tensor: reads.append(1) or b"")
    assert quantized.fingerprint() == again.fingerprint()
    assert not reads


@needs_bitsandbytes
def test_each_quantization_has_a_hash_of_its_own(folder, tmp_path):
    hashes = [hidden_states(folder, quantization=name).fingerprint()["weights"] for name in (None, "4bit", "8bit")]
    assert len(set(hashes)) == 3
    selector = Selector(hidden_states(folder, quantization="8bit"), store=tmp_path)
    selection = selector.select([f"{text} {n}" for n in range(4) for text in SENTENCES], SENTENCES[:2], 3)
    assert selection.record.embedder["quantization"] == "8bit"


@needs_bitsandbytes
def test_the_hash_sees_other_weights_and_other_scales(folder, quantization):
    first = hidden_states(folder, quantization=quantization)
    model = load_model(str(folder), quantization=quantization)
    weight = model.layers[0].mlp.down_proj.weight
    scales = weight.quant_state.absmax if quantization == "4bit" else weight.SCB
    assert HiddenStates(model, tokenizer=tiny_tokenizer()).fingerprint()["weights"] == first.fingerprint()["weights"]
    scales.mul_(2)
    other = HiddenStates(model, tokenizer=tiny_tokenizer())
    assert other.fingerprint()["weights"] != first.fingerprint()["weights"]
    scales.div_(2)
    weight.data[0, 0] ^= 1
    other = HiddenStates(model, tokenizer=tiny_tokenizer())
    assert other.fingerprint()["weights"] != first.fingerprint()["weights"]


@needs_bitsandbytes
def test_a_model_that_ran_before_has_the_same_hash(folder):
    model = load_model(str(folder), quantization="8bit")
    before = HiddenStates(model, tokenizer=tiny_tokenizer())
    before.embed(ROWS)
    after = HiddenStates(model, tokenizer=tiny_tokenizer())
    assert after.fingerprint() == before.fingerprint()
