import functools
import logging

import peft
import pytest
import torch

from itl_hf.embedding import HiddenStates
from tests.tiny_models import ARCHITECTURES, CAUSAL, EOS, PAD, SENTENCES, tiny_model, tiny_tokenizer

ROWS = [{"text": text} for text in (*SENTENCES, "Paris", "A dog", " ".join(SENTENCES[:2]))]
LAYERS = 3


@functools.cache
def shared_model(architecture):
    return tiny_model(architecture, layers=LAYERS)


def embedder(architecture="llama", *, tokenizer=None, **arguments):
    return HiddenStates(shared_model(architecture), tokenizer=tokenizer or tiny_tokenizer(), **arguments)


def plain_hidden_states(model, tokenizer, text):
    """What transformers itself gives for one row: a tuple of (T, d)."""
    inputs = tokenizer(text, return_tensors="pt")
    body = model.get_encoder() if model.config.is_encoder_decoder else model
    with torch.no_grad():
        return [h[0] for h in body(**inputs.to(model.device), output_hidden_states=True).hidden_states]


@pytest.mark.parametrize("layer", range(LAYERS + 1))
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_equals_transformers(architecture, layer, caplog):
    tokenizer = tiny_tokenizer(bos_and_eos=architecture not in CAUSAL)
    states = plain_hidden_states(shared_model(architecture), tokenizer, SENTENCES[0])
    assert len(states) == LAYERS + 1
    with caplog.at_level(logging.WARNING):
        for pooling, expected in (("mean", states[layer].mean(0)), ("last", states[layer][-1])):
            features = embedder(architecture, tokenizer=tokenizer, layer=layer, pooling=pooling).embed(ROWS[:1])
            torch.testing.assert_close(features[0], expected, atol=1e-5, rtol=1e-5)
    assert not caplog.records, "the early exit was not used"


@pytest.mark.parametrize("pooling", ["mean", "last", "weighted_mean"])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_rows_do_not_depend_on_their_batch(architecture, pooling):
    alone = torch.cat([embedder(architecture, pooling=pooling).embed([row]) for row in ROWS])
    order = torch.randperm(len(ROWS), generator=torch.Generator().manual_seed(0)).tolist()
    for tokenizer in (
        tiny_tokenizer(padding_side="left"),
        tiny_tokenizer(padding_side="right"),
        tiny_tokenizer(pad_token=False),
    ):
        for batch_tokens in (1, 60, 10_000):
            options = {"pooling": pooling, "batch_tokens": batch_tokens, "tokenizer": tokenizer}
            features = embedder(architecture, **options).embed([ROWS[i] for i in order])
            torch.testing.assert_close(features, alone[order], atol=1e-5, rtol=1e-5)


def test_roberta_pads_with_the_id_its_positions_count_by():
    model = tiny_model("roberta", pad_token_id=EOS)
    tokenizer = tiny_tokenizer()  # pads with another id than the model's
    assert tokenizer.pad_token_id == PAD != EOS
    together = HiddenStates(model, tokenizer=tokenizer).embed(ROWS)
    alone = torch.cat([HiddenStates(model, tokenizer=tokenizer).embed([row]) for row in ROWS])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("stop", [1, 2])
def test_nothing_runs_beyond_the_layer(stop):
    model = tiny_model()
    ran = []
    for name, module in model.named_modules():
        module.register_forward_hook(lambda *_args, name=name: ran.append(name))
    hidden = HiddenStates(model, tokenizer=tiny_tokenizer(), layer=stop)
    hidden.embed(ROWS[:1])  # compares the early exit with the full pass
    ran.clear()
    hidden.embed(ROWS)
    assert any(name.startswith(f"model.layers.{stop - 1}.") for name in ran)
    assert not any(name.startswith(f"model.layers.{stop}") or name in ("model.norm", "lm_head") for name in ran)


def test_the_head_never_runs_at_the_last_layer():
    model = tiny_model()
    model.lm_head.register_forward_hook(lambda *_: pytest.fail("the LM head ran"))
    HiddenStates(model, tokenizer=tiny_tokenizer(), layer=-1).embed(ROWS)


def hooks(model):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())


@pytest.mark.parametrize("layer", [0, 2])
def test_hooks_and_modes_are_restored(layer):
    model = tiny_model().train()
    model.model.layers[1].eval()
    before = {name: module.training for name, module in model.named_modules()}
    hidden = HiddenStates(model, tokenizer=tiny_tokenizer(), layer=layer)
    hidden.embed(ROWS[:2])
    count = hooks(model)  # transformers leaves a few of its own at the comparison
    hidden.embed(ROWS[:2])
    model.model.layers[0].register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError("out of memory")))
    if layer:
        with pytest.raises(MemoryError):
            hidden.embed(ROWS[:2])
    assert hooks(model) == count + 1
    assert {name: module.training for name, module in model.named_modules()} == before


def test_dropout_is_off_and_the_generator_untouched():
    model = tiny_model("bert", hidden_dropout_prob=0.5).train()
    state = torch.get_rng_state()
    first, second = (HiddenStates(model, tokenizer=tiny_tokenizer()).embed(ROWS) for _ in range(2))
    torch.testing.assert_close(first, second)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("layer", [1, LAYERS])
def test_a_model_without_block_list_runs_all_layers_with_a_warning(layer, caplog):
    expected = embedder(layer=layer).embed(ROWS)
    hidden = embedder(layer=layer)
    hidden.backbone.blocks = None
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(hidden.embed(ROWS), expected)
    assert "no list of blocks found" in caplog.text


def test_blocks_in_another_order_are_detected(caplog):
    expected = embedder(layer=1).embed(ROWS)
    hidden = embedder(layer=1)
    hidden.backbone.blocks = torch.nn.ModuleList(reversed(hidden.backbone.blocks))
    with caplog.at_level(logging.WARNING):
        torch.testing.assert_close(hidden.embed(ROWS), expected)
    assert "is not hidden_states[1]" in caplog.text


# --- spans


@pytest.mark.parametrize("pooling", ["mean", "last", "weighted_mean"])
@pytest.mark.parametrize("span", ["prompt", "completion", "whole"])
def test_spans(span, pooling):
    tokenizer = tiny_tokenizer()
    states = plain_hidden_states(shared_model("llama"), tokenizer, "The capital of France is Paris.")[2]
    start = len(tokenizer("The capital of France")["input_ids"])
    part = {"prompt": states[:start], "completion": states[start:], "whole": states}[span]
    weights = {"mean": torch.ones(len(part)), "weighted_mean": torch.arange(1.0, len(part) + 1)}
    expected = part[-1] if pooling == "last" else weights[pooling] @ part / weights[pooling].sum()
    row = {"prompt": "The capital of France", "completion": " is Paris."}
    features = embedder(layer=2, span=span, pooling=pooling).embed([row, {**row, "completion": " is Rome, perhaps."}])
    torch.testing.assert_close(features[0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_a_prompt_has_the_same_features_with_and_without_completion(architecture):
    tokenizer = tiny_tokenizer(bos_and_eos=architecture == "bert")
    rows = [{"prompt": SENTENCES[0], "completion": " Five."}, {"prompt": SENTENCES[0]}]
    with_completion, without_completion = embedder(architecture, tokenizer=tokenizer).embed(rows)
    torch.testing.assert_close(with_completion, without_completion)


def test_skipped_tokens_are_read_but_not_pooled():
    tokenizer = tiny_tokenizer()
    states = plain_hidden_states(shared_model("llama"), tokenizer, "The capital of France is Paris.")[2]
    start = len(tokenizer("The capital of France")["input_ids"])
    row = {"prompt": "The capital of France", "completion": " is Paris."}
    for span, skip, expected in (
        ("prompt", 1, states[1:start].mean(0)),
        ("whole", 3, states[3:].mean(0)),
        ("prompt", 100, states[start - 1]),  # nothing else is left
        ("completion", 1, states[start:].mean(0)),
    ):
        features = embedder(layer=2, span=span, skip_tokens=skip).embed([row])
        torch.testing.assert_close(features[0], expected, atol=1e-5, rtol=1e-5)


# --- several layers and poolings


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_several_layers_in_one_pass(architecture, caplog):
    layers, poolings = [0, LAYERS, 1], ["last", "mean", "weighted_mean"]
    with caplog.at_level(logging.WARNING):
        hidden = embedder(architecture, layer=layers, pooling=poolings)
        together = hidden.embed(ROWS)
    assert not caplog.records, "the early exit was not used"
    assert together.shape == (len(ROWS), hidden.dimension) == (len(ROWS), 9 * 32)
    assert [(part.layer, part.pooling) for part in hidden.parts] == [(k, p) for k in layers for p in poolings]
    for part in hidden.parts:
        alone = embedder(architecture, layer=part.layer, pooling=part.pooling).embed(ROWS)
        torch.testing.assert_close(together[:, part.columns], alone, atol=1e-6, rtol=1e-5)


def test_several_layers_by_their_share_of_the_depth():
    assert embedder(layer=[0.34, 0.75, -1]).layers == (1, 2, 3)


def test_nothing_runs_beyond_the_last_of_several_layers():
    model = tiny_model()
    hidden = HiddenStates(model, tokenizer=tiny_tokenizer(), layer=[2, 0, 1])
    hidden.embed(ROWS[:1])  # compares the early exit with the full pass
    model.model.layers[2].register_forward_hook(lambda *_: pytest.fail("a block beyond ran"))
    passes = []
    model.model.layers[0].register_forward_hook(lambda *_: passes.append(1))
    hidden.embed(ROWS[:1])
    assert len(passes) == 1


def test_several_layers_of_a_model_without_block_list():
    expected = embedder(layer=[1, 3]).embed(ROWS)
    hidden = embedder(layer=[1, 3])
    hidden.backbone.blocks = None
    torch.testing.assert_close(hidden.embed(ROWS), expected)


def test_prepared_rows_come_with_their_tokens():
    hidden = embedder(batch_tokens=50)
    embedded = hidden.embed_prepared(hidden.prepare(ROWS))
    torch.testing.assert_close(embedded.features, hidden.embed(ROWS))
    assert embedded.columns["tokens"].tolist() == [len(tiny_tokenizer()(row["text"])["input_ids"]) for row in ROWS]


# --- arguments


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pooling": "max"}, "pooling must be one of"),
        ({"pooling": ["mean", "mean"]}, "twice the same"),
        ({"layer": []}, "layer is an empty list: name one layer or several"),
        ({"layer": [1, -3]}, "different ones"),
        ({"skip_tokens": -1}, "skip_tokens"),
        ({"skip_tokens": 1.5}, "skip_tokens"),
        ({"span": "answer"}, "span must be one of"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"max_length": 129}, "max_length=129 is more than the model's context of 128"),
        ({"max_length": 0}, "max_length must be a whole number of at least 1"),
        ({"layer": 4}, "hidden states 0 to 3"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        embedder(**arguments)


@pytest.mark.parametrize(("architecture", "expected"), [("llama", 128), ("gpt2", 128), ("roberta", 128), ("t5", 2048)])
def test_default_max_length_is_the_context(architecture, expected):
    hidden = embedder(architecture)
    assert hidden.max_length == expected
    if architecture != "t5":
        with pytest.warns(UserWarning, match=r"1 row\(s\) are longer than max_length=128 .* first is row 0"):
            assert hidden.embed([{"text": "dog " * 500}]).isfinite().all()


def test_bad_models_and_tokenizers(tmp_path):
    with pytest.raises(ValueError, match=r"no model at .*nowhere"):
        HiddenStates(str(tmp_path / "nowhere"))
    with pytest.raises(TypeError, match="model must be a transformers model"):
        HiddenStates(torch.nn.Linear(2, 2), tokenizer=tiny_tokenizer())
    with pytest.raises(ValueError, match="pass tokenizer="):
        HiddenStates(tiny_model())
    with pytest.raises(TypeError, match="got str"):
        HiddenStates(tiny_model(), tokenizer="gpt2")
    with pytest.raises(ValueError, match="the model embeds 50"):
        HiddenStates(tiny_model(vocab_size=50), tokenizer=tiny_tokenizer())
    with pytest.raises(ValueError, match="dtype must be one of"):
        HiddenStates(str(tmp_path), tokenizer=tiny_tokenizer(), dtype="float8")


def test_missing_completion_and_template():
    with pytest.raises(ValueError, match="row 5 has no completion"):
        embedder(span="completion").embed(ROWS, first_row=5)
    conversation = [{"messages": [{"role": "user", "content": "Hi"}]}]
    with pytest.raises(ValueError, match="no chat template"):
        embedder(tokenizer=tiny_tokenizer(chat_template=False)).check(conversation)


def test_check_finds_completions_that_truncation_removes():
    row = {"prompt": SENTENCES[0], "completion": " Five."}
    with pytest.raises(ValueError, match="row 1: nothing of its completion is left"):
        embedder(span="completion", max_length=8).check([{"prompt": "A", "completion": " dog"}, row])


def test_on_rows_counts_every_row():
    counts = []
    embedder(batch_tokens=50).embed(ROWS, on_rows=counts.append)
    assert sum(counts) == len(ROWS)
    assert len(counts) > 1


# --- where the model comes from


@pytest.mark.parametrize("architecture", ["llama", "bert"])
def test_path_and_object_agree(architecture, tmp_path):
    model, tokenizer = tiny_model(architecture), tiny_tokenizer()
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    from_folder, again = HiddenStates(str(tmp_path)), HiddenStates(tmp_path)
    torch.testing.assert_close(from_folder.embed(ROWS), HiddenStates(model, tokenizer=tokenizer).embed(ROWS))
    # A checkpoint of BERT with an LM head has no pooler, which is then drawn anew at each load.
    assert from_folder.fingerprint() == again.fingerprint()
    assert from_folder.fingerprint()["weights"] == HiddenStates(model, tokenizer=tokenizer).fingerprint()["weights"]


@pytest.mark.parametrize(("dtype", "closeness"), [("bfloat16", 0.999), ("float16", 0.99999)])
def test_half_precision(dtype, closeness, tmp_path):
    tiny_model().save_pretrained(tmp_path)
    half = HiddenStates(str(tmp_path), tokenizer=tiny_tokenizer(), dtype=dtype)
    features, expected = half.embed(ROWS), embedder(layer=0.75).embed(ROWS)
    assert features.dtype == torch.float32
    assert torch.cosine_similarity(features, expected).min() > closeness
    assert half.fingerprint()["dtype"] == dtype


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_attention_does_not_matter(attention):
    model = tiny_model(attn_implementation=attention)
    assert model.config._attn_implementation == attention
    features = HiddenStates(model, tokenizer=tiny_tokenizer()).embed(ROWS)
    torch.testing.assert_close(features, embedder().embed(ROWS), atol=1e-5, rtol=1e-5)


def test_the_encoder_of_an_encoder_decoder_reads_both_parts():
    row = {"prompt": "The capital of France", "completion": " is Paris."}
    states = plain_hidden_states(shared_model("t5"), tiny_tokenizer(), "The capital of France is Paris.")[2]
    features = embedder("t5", layer=2, span="whole").embed([row])
    torch.testing.assert_close(features[0], states.mean(0), atol=1e-5, rtol=1e-5)
    prompt = embedder("t5", layer=2).embed([row])
    torch.testing.assert_close(prompt, embedder("t5", layer=2).embed([{"prompt": row["prompt"]}]))


def lora(model):
    config = peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return peft.get_peft_model(model, config)


def test_active_adapters_change_features_and_fingerprint():
    model = lora(tiny_model())
    hidden = HiddenStates(model, tokenizer=tiny_tokenizer(), layer=2)
    with_adapter = hidden.embed(ROWS)
    print_with = hidden.fingerprint()
    states = plain_hidden_states(model, tiny_tokenizer(), SENTENCES[0])
    torch.testing.assert_close(with_adapter[0], states[2].mean(0), atol=1e-5, rtol=1e-5)
    with model.disable_adapter():
        torch.testing.assert_close(hidden.embed(ROWS), embedder(layer=2).embed(ROWS))
        assert hidden.fingerprint() != print_with
    assert not torch.allclose(with_adapter, embedder(layer=2).embed(ROWS), atol=1e-3)
    assert hidden.fingerprint() == print_with


def test_merged_and_active_adapters_agree():
    model = lora(tiny_model())
    live = HiddenStates(model, tokenizer=tiny_tokenizer(), layer=2)
    expected, before = live.embed(ROWS), live.fingerprint()["weights"]
    model.merge_adapter()
    torch.testing.assert_close(live.embed(ROWS), expected, atol=1e-5, rtol=1e-5)
    assert live.fingerprint()["weights"] != before  # other weights run, if to the same effect
    model.unmerge_adapter()
    merged_adapters = HiddenStates(model.merge_and_unload(), tokenizer=tiny_tokenizer(), layer=2)
    torch.testing.assert_close(merged_adapters.embed(ROWS), expected, atol=1e-5, rtol=1e-5)


def test_prompt_learning_is_refused():
    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(TypeError, match="virtual tokens"):
        HiddenStates(peft.get_peft_model(tiny_model(), config), tokenizer=tiny_tokenizer())


# --- fingerprint


def test_fingerprint_depends_on_every_setting():
    base = embedder().fingerprint()
    others = {
        "layer": embedder(layer=1),
        "pooling": embedder(pooling="last"),
        "skip_tokens": embedder(skip_tokens=1),
        "span": embedder(span="whole"),
        "max_length": embedder(max_length=16),
        "tokenizer": embedder(tokenizer=tiny_tokenizer(bos_and_eos=True)),
        "chat_template": embedder(tokenizer=tiny_tokenizer(chat_template=False)),
    }
    for key, other in others.items():
        differing = {name for name, value in other.fingerprint().items() if value != base[name]}
        assert key in differing
        assert differing <= {key, "weights"}  # the weights are those up to the layer
    assert embedder(batch_tokens=7).fingerprint() == base
    several = [embedder(layer=layers).fingerprint() for layers in ([1, 2], [2, 1], [0, 2])]
    assert len({print_["layer"] for print_ in (base, *several)}) == 4
    assert (
        embedder(pooling=["mean", "last"]).fingerprint()["pooling"] != embedder(pooling="mean").fingerprint()["pooling"]
    )


def test_a_device_map_places_the_model_and_changes_no_feature(tmp_path, monkeypatch):
    tiny_model("llama").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    rows = [{"prompt": "What is the sum of two and three?"}]
    plain, spread = HiddenStates(str(tmp_path)), HiddenStates(str(tmp_path), device_map="auto")
    assert torch.equal(plain.embed(rows), spread.embed(rows))
    assert plain.fingerprint() == spread.fingerprint()
    for options, text in (
        ({"device_map": "all"}, "device_map must be one of auto"),
        ({"device_map": "auto", "device": "cpu"}, "leave out one of the two"),
    ):
        with pytest.raises(ValueError, match=text):
            HiddenStates(str(tmp_path), **options)
    with pytest.raises(ValueError, match="given as an object"):
        HiddenStates(tiny_model("llama"), tokenizer=tiny_tokenizer(), device_map="auto")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="--nproc_per_node 1"):
        HiddenStates(str(tmp_path), device_map="auto")
