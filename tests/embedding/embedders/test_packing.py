"""Ways to run the model faster that must not change a row: packing and compiling."""

import functools
import shutil

import pytest
import torch

from itl_hf.embedding import HiddenStates
from itl_hf.embedding.embedders.packing import pack, unpack
from tests.tiny_models import CAUSAL, SENTENCES, tiny_model, tiny_tokenizer

ROWS = [{"text": text} for text in (*SENTENCES, "Paris", "A dog", " ".join(SENTENCES[:2]))]


def test_unpacking_undoes_packing():
    ids = torch.tensor([[5, 6, 7], [8, 9, 0], [4, 0, 0]])
    mask = torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    packed = pack(ids, mask)
    assert packed["position_ids"].tolist() == [[0, 1, 2, 0, 1, 0]]
    assert unpack(packed["input_ids"][..., None].float(), mask)[..., 0].tolist() == ids.tolist()


def test_flash_attention_gets_the_bounds_of_rows():
    packed = pack(
        torch.ones(3, 4, dtype=torch.long), torch.tensor([[1, 1, 0, 0], [1] * 4, [1, 0, 0, 0]]), "flash_attention_2"
    )
    assert packed["cu_seq_lens_q"].tolist() == packed["cu_seq_lens_k"].tolist() == [0, 2, 6, 7]
    assert packed["cu_seq_lens_q"].dtype == torch.int32  # what the kernels take
    assert packed["max_length_q"] == packed["max_length_k"] == 4


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("architecture", CAUSAL)
def test_packed_rows_are_the_same(architecture, attention):
    model = tiny_model(architecture, attn_implementation=attention)
    options = {"tokenizer": tiny_tokenizer(), "layer": [1, 3], "pooling": ["mean", "last"]}
    expected = HiddenStates(model, **options).embed(ROWS)
    packed = HiddenStates(model, packing=True, **options)
    shapes = []
    model.get_input_embeddings().register_forward_hook(lambda _module, args, _out: shapes.append(args[0].shape))
    for _ in range(2):
        torch.testing.assert_close(packed.embed(ROWS), expected, atol=1e-5, rtol=1e-5)
    assert shapes[-1][0] == 1, "the batch was not packed"
    assert packed.fingerprint() == HiddenStates(model, **options).fingerprint()


def test_packed_half_precision_passes_its_own_check():
    model = tiny_model().bfloat16()
    packed, padded = (HiddenStates(model, tokenizer=tiny_tokenizer(), packing=on).embed(ROWS) for on in (True, False))
    assert torch.cosine_similarity(packed, padded).min() > 0.999


def test_packing_is_refused_where_rows_would_mix():
    with pytest.raises(ValueError, match="lets packed rows influence each other"):
        HiddenStates(tiny_model("bert"), tokenizer=tiny_tokenizer(), packing=True).embed(ROWS)
    with pytest.raises(ValueError, match="takes position_ids"):
        HiddenStates(tiny_model("t5"), tokenizer=tiny_tokenizer(), packing=True)


def check_compiled():
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    model = tiny_model(layers=2)
    options = {"tokenizer": tiny_tokenizer(), "layer": [1, 2]}
    expected = HiddenStates(model, **options).embed(ROWS)
    compiled = HiddenStates(model, compile=True, batch_tokens=60, **options)
    torch.testing.assert_close(compiled.embed(ROWS), expected, atol=1e-5, rtol=1e-5)
    assert torch._dynamo.utils.counters["frames"]["ok"] > 0, "nothing was compiled"
    assert all("forward" not in block.__dict__ for block in model.model.layers)
    assert compiled.fingerprint() == HiddenStates(model, **options).fingerprint()


def test_compiled_rows_are_the_same_and_the_model_is_restored(monkeypatch):
    # Tracing without generating code: the same way through our code in a hundredth of the time.
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend="eager"))
    check_compiled()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="needs a C++ compiler")
def test_compiled_rows_are_the_same_with_the_default_backend():
    check_compiled()


def test_compiling_needs_blocks():
    model = tiny_model(layers=2)
    model.model.layers = torch.nn.Sequential(*model.model.layers)
    with pytest.raises(ValueError, match="no list of blocks"):
        HiddenStates(model, tokenizer=tiny_tokenizer(), compile=True)
