"""Whatever changes a row's features changes the fingerprint: every input of every embedder is changed in turn."""

from __future__ import annotations

import copy
import datetime
import functools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tokenizers import Tokenizer, normalizers
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from itl_hf import Combined, Gradients, HiddenStates, SentenceEncoder
from itl_hf.embedding.embedders.gradients.adam import AdamPreconditioner
from itl_hf.embedding.embedders.weights_hash import WeightsHash
from tests.tiny_models import tiny_model, tiny_tokenizer

ROWS = [
    {"prompt": "the sum", "completion": " is five and the order is Red green blue"},
    {"messages": [{"role": "user", "content": "What Is the sum?"}, {"role": "assistant", "content": "Five, I think."}]},
    {"messages": [{"role": "user", "content": "red é green"}, {"role": "assistant", "content": "blue"}]},
]
DATED = "{{ strftime_now('%d %b %Y') }} {% for m in messages %}{{ m['content'] }}{% endfor %}"


def tied(model):
    model.config.rms_norm_eps = 0.5
    for module in model.modules():
        if hasattr(module, "variance_epsilon"):
            module.variance_epsilon = 0.5
    return model


def swapped_rows(model):
    with torch.no_grad():
        table = model.get_input_embeddings().weight
        table[[200, 300]] = table[[300, 200]]
    return model


def bidirectional(model):
    for layer in model.base_model.layers:
        layer.self_attn.is_causal = False
    return model


def with_adapter(model, scale=1.0, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], **options))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.data.add_(scale * torch.randn_like(parameter))
    return model


def without_adapter(model):
    model = with_adapter(model)
    model.base_model.disable_adapter_layers()
    return model


def changed_template(tokenizer):
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "<|im_end|>")
    return tokenizer


def lowercasing(tokenizer):
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    return tokenizer


def with_exchanged_words(_tokenizer):
    tokenizer = tiny_tokenizer()
    facts = json.loads(tokenizer.backend_tokenizer.to_str())
    vocabulary = facts["model"]["vocab"]
    vocabulary["e"], vocabulary["s"] = vocabulary["s"], vocabulary["e"]
    changed = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(facts)), **tokenizer.special_tokens_map
    )
    changed.chat_template = tokenizer.chat_template
    return changed


def with_bos(tokenizer):
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    return tokenizer


def with_other_bos(tokenizer):
    tokenizer = with_bos(tokenizer)
    tokenizer.bos_token = "</s>"
    return tokenizer


MODELS: dict[str, Callable[[], Any]] = {
    "weights": lambda: tiny_model("llama", seed=1),
    "two rows of the embeddings exchanged": lambda: swapped_rows(tiny_model("llama")),
    "config": lambda: tiny_model("llama", rope_parameters={"rope_theta": 10.0, "rope_type": "default"}),
    "config and module": lambda: tied(tiny_model("llama")),
    "number of heads": lambda: tiny_model("llama", num_attention_heads=8),
    "architecture": lambda: tiny_model("qwen2"),
    "attention in both directions": lambda: bidirectional(tiny_model("llama")),
    "dtype": lambda: tiny_model("llama").to(torch.bfloat16),
    "adapter": lambda: with_adapter(tiny_model("llama")),
    "weights of an adapter": lambda: with_adapter(tiny_model("llama"), scale=2.0),
    "scale of an adapter": lambda: with_adapter(tiny_model("llama"), lora_alpha=64),
    "adapter switched off": lambda: without_adapter(tiny_model("llama")),
}
TOKENIZERS: dict[str, Callable[[], Any]] = {
    "special tokens added": lambda: tiny_tokenizer(bos_and_eos=True),
    "template": lambda: changed_template(tiny_tokenizer()),
    "normalizer": lambda: lowercasing(tiny_tokenizer()),
    "vocabulary": lambda: with_exchanged_words(tiny_tokenizer()),
    "token that the template prints": lambda: with_bos(tiny_tokenizer()),
    "other token that the template prints": lambda: with_other_bos(tiny_tokenizer()),
}
EMBEDDERS: dict[str, tuple[Callable[..., Any], dict[str, dict[str, Any]]]] = {
    "hidden states": (
        HiddenStates,
        {
            "layer": {"layer": 1},
            "layers": {"layer": [1, 2]},
            "layers in another order": {"layer": [2, 1]},
            "pooling": {"pooling": "last"},
            "poolings": {"pooling": ["mean", "last"]},
            "span": {"span": "whole"},
            "completion": {"span": "completion"},
            "skip_tokens": {"skip_tokens": 2},
            "max_length": {"max_length": 9},
        },
    ),
    "gradients": (
        functools.partial(Gradients, dimension=64, rank=16),
        {
            "modules": {"modules": ["q_proj"]},
            "dimension": {"dimension": 32},
            "rank": {"rank": 8},
            "labels": {"labels": "whole"},
            "predicted labels": {"labels": "predicted"},
            "max_length": {"max_length": 9},
            "normalize": {"normalize": False},
            "seed": {"seed": 1},
        },
    ),
    "combined": (
        lambda model, tokenizer, unit_norm=True, weights=None, **options: Combined(
            [HiddenStates(model, tokenizer=tokenizer, **options), HiddenStates(model, tokenizer=tokenizer, layer=1)],
            weights,
            unit_norm=unit_norm,
        ),
        {"weights": {"weights": [1.0, 2.0]}, "unit_norm": {"unit_norm": False}, "part": {"pooling": "last"}},
    ),
}
CASES = [
    (embedder, kind, name)
    for embedder, (_, options) in EMBEDDERS.items()
    for kind, names in (("model", MODELS), ("tokenizer", TOKENIZERS), ("options", options))
    for name in names
]


def make(embedder, model=None, tokenizer=None, **options):
    model, tokenizer = model or tiny_model("llama"), tokenizer or tiny_tokenizer()
    return EMBEDDERS[embedder][0](model=model, tokenizer=tokenizer, **options)


def features(embedder):
    embedded = embedder.embed_prepared(embedder.prepare(ROWS))
    return embedded.features


@functools.cache
def baseline(embedder):
    plain = make(embedder)
    return plain.fingerprint(), features(plain)


@pytest.mark.parametrize(("embedder", "kind", "name"), CASES)
def test_a_changed_input_changes_the_fingerprint(embedder, kind, name):
    if (embedder, name) == ("gradients", "attention in both directions"):
        with pytest.raises(TypeError, match="a token sees those after it"):
            make(embedder, model=MODELS[name]())
        return
    if kind == "options":
        changed = make(embedder, **EMBEDDERS[embedder][1][name])
    else:
        changed = make(embedder, **{kind: (MODELS if kind == "model" else TOKENIZERS)[name]()})
    if embedder == "gradients" and name == "attention in both directions":
        with pytest.raises(TypeError, match="causal"):
            changed.fingerprint()
        return
    fingerprint, rows = baseline(embedder)
    assert changed.fingerprint() != fingerprint
    changed_rows = features(changed)
    if name not in ("attention in both directions", "two rows of the embeddings exchanged", "adapter switched off"):
        # The case is one: without a change of the features the test would say nothing.
        assert changed_rows.shape != rows.shape or not torch.equal(changed_rows, rows)


@pytest.mark.parametrize("embedder", EMBEDDERS)
def test_what_changes_no_features_leaves_the_fingerprint(embedder):
    fingerprint, _ = baseline(embedder)
    model, tokenizer = tiny_model("llama"), tiny_tokenizer(padding_side="left")
    model.train()
    model.config.use_cache = False
    tokenizer("a long text", padding="max_length", truncation=True, max_length=3)
    assert make(embedder, copy.deepcopy(model), tokenizer).fingerprint() == fingerprint


@pytest.mark.parametrize("embedder", ["hidden states", "gradients"])
def test_the_day_changes_neither_features_nor_fingerprint(embedder, monkeypatch, caplog):
    results = []
    for day in (1, 28):
        moment = datetime.datetime(2026, 11, day)
        clock = type("Clock", (), {"now": staticmethod(lambda moment=moment: moment)})
        monkeypatch.setattr(chat_template_utils, "datetime", clock)
        tokenizer = tiny_tokenizer()
        tokenizer.chat_template = f"{{# {embedder} #}}{DATED}"
        one = make(embedder, tokenizer=tokenizer)
        results.append((one.fingerprint(), features(one)))
    assert results[0][0] == results[1][0] != baseline(embedder)[0]
    assert results[0][0]["template_date"] == "2024-07-26"
    assert torch.equal(results[0][1], results[1][1])
    assert sum("prints today's date" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("offload", ["cpu", "disk"])
def test_offloaded_weights_are_hashed_as_if_they_were_not(offload, tmp_path):
    hashes = []
    for seed, is_offloaded in ((0, False), (0, True), (1, True)):
        model = tiny_model("llama", head=False, seed=seed)
        if is_offloaded:
            device = torch.device("cpu")
            folder = tmp_path / str(seed)
            model = cpu_offload(model, device) if offload == "cpu" else disk_offload(model, folder, device)
            assert next(model.parameters()).is_meta
        hidden = HiddenStates(model, tokenizer=tiny_tokenizer())
        hashes.append(hidden.fingerprint())
        assert torch.isfinite(features(hidden)).all()
    assert hashes[0] == hashes[1] != hashes[2]


def test_weights_without_values_are_refused():
    with torch.device("meta"):
        model = tiny_model("llama", head=False)
    with pytest.raises(ValueError, match="is on the meta device, and no hook"):
        WeightsHash(model)()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_any_change_of_any_weight_changes_the_hash(data):
    model = tiny_model("gpt2", layers=1)
    fingerprint = WeightsHash(model)()
    parameter = data.draw(st.sampled_from(list(model.parameters())))
    flat = parameter.data.view(-1)
    size = flat.numel()
    places = data.draw(st.lists(st.integers(0, size - 1), min_size=2, max_size=2))
    before = flat.clone()
    change = data.draw(st.sampled_from(["bit", "exchange", "reverse", "negate", "roll"]))
    if change == "bit":
        bit = data.draw(st.integers(0, 31))
        flat.view(torch.int32)[places[0]] ^= int(np.uint32(1 << bit).view(np.int32))
    elif change == "exchange":
        flat[places] = flat[places[::-1]]
    elif change == "reverse":
        flat.copy_(flat.flip(0))
    elif change == "negate":
        flat[places[0]] *= -1
    else:
        flat.copy_(flat.roll(places[0]))
    is_same = torch.equal(before.view(torch.int32), flat.view(torch.int32))
    assert (WeightsHash(model)() == fingerprint) is is_same


def test_everything_of_adams_state_changes_the_fingerprint():
    model = tiny_model("llama")
    state = {name: {"exp_avg_sq": p.detach().square(), "step": 3} for name, p in model.named_parameters()}
    adam = AdamPreconditioner(state)
    others = [
        AdamPreconditioner(state, eps=1e-3),
        AdamPreconditioner(state, betas=(0.9, 0.9)),
        AdamPreconditioner({name: values | {"step": 4} for name, values in state.items()}),
        AdamPreconditioner({name: values | {"exp_avg_sq": values["exp_avg_sq"] * 2} for name, values in state.items()}),
    ]
    prints = [make("gradients", model, adam=one).fingerprint()["adam"] for one in (None, adam, *others)]
    assert len(set(prints)) == len(prints)


def sentence_model(folder, *, pooling="mean", normalize=True, max_seq_length=64, change=None, **options):
    modules = pytest.importorskip("sentence_transformers.sentence_transformer.modules")
    from sentence_transformers import SentenceTransformer

    transformer = modules.Transformer(str(folder), max_seq_length=max_seq_length)
    if change is not None:
        change(transformer)
    parts = [transformer, modules.Pooling(32, pooling_mode=pooling), *([modules.Normalize()] if normalize else [])]
    return SentenceTransformer(modules=parts, device="cpu", prompts={"query": "question: "}, **options)


SENTENCE_MODELS: dict[str, dict[str, Any]] = {
    "pooling": {"pooling": "cls"},
    "modules": {"normalize": False},
    "max_seq_length": {"max_seq_length": 4},
    "prompt": {"default_prompt_name": "query"},
    "truncate_dim": {"truncate_dim": 10},
    "embeddings": {"change": lambda transformer: swapped_rows(transformer.auto_model)},
    "dtype": {"change": lambda transformer: transformer.to(torch.bfloat16)},
    "tokenizer": {"change": lambda transformer: lowercasing(transformer.tokenizer)},
}


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bert")
    tiny_model("bert", head=False).save_pretrained(folder)
    tiny_tokenizer(bos_and_eos=True, chat_template=False).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("name", [*SENTENCE_MODELS, "span", "normalize_embeddings"])
def test_a_changed_sentence_encoder_changes_the_fingerprint(name, bert):
    plain = SentenceEncoder(sentence_model(bert))
    options = {"span": {"span": "whole"}, "normalize_embeddings": {"normalize_embeddings": True}}.get(name, {})
    changed = SentenceEncoder(sentence_model(bert, **SENTENCE_MODELS.get(name, {})), **options)
    assert SentenceEncoder(sentence_model(bert)).fingerprint() == plain.fingerprint() != changed.fingerprint()
