import warnings

import pytest
import torch

from itl_hf import Selector
from itl_hf.embedding.embedders.base import Embedded
from itl_hf.embedding.embedders.gradients import Gradients
from itl_hf.embedding.embedders.gradients.labels import label_count
from tests.embedding.embedders.gradients import dense
from tests.embedding.embedders.gradients.models import KINDS, ROWS, add_adapter, make, model_of, tokenizer
from tests.tiny_models import SENTENCES, tiny_model, tiny_tokenizer

SMALL = {"dimension": 256, "rank": 16}


def embedder(kind="llama", *, dtype=torch.float32, **options):
    options = {"tokenizer": tokenizer(), "modules": "all", **SMALL, **options}
    return Gradients(model_of(kind, dtype), **options)


def by_autograd(gradients, rows):
    """Features before normalisation and losses, one row at a time."""
    base, tokens = gradients.model, gradients.prepare(rows)
    results = []
    for row in tokens:
        labels = None
        if gradients.labels == "predicted":
            with torch.no_grad():
                labels = base(input_ids=torch.tensor([row.input_ids])).logits[0].argmax(-1)
        first = row.prompt_length if gradients.labels == "completion" else 1
        value = dense.loss(base, row.input_ids, first, labels)
        parts = dense.gradients(base, gradients.layers, lambda value=value: value)
        results.append((dense.features(gradients.sketch, gradients.layers, parts), value.detach()))
    base.requires_grad_(True)
    return torch.stack([f for f, _ in results]), torch.stack([v for _, v in results])


@pytest.mark.parametrize("labels", ["completion", "predicted"])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_autograd_row_by_row(kind, labels):
    gradients = embedder(kind, labels=labels, normalize=False)
    embedded = gradients.embed(ROWS)
    expected, losses = by_autograd(gradients, ROWS)
    assert embedded.features.dtype == torch.float32
    error = (embedded.features - expected).norm(dim=1) / expected.norm(dim=1)
    assert error.max() < 1e-5
    torch.testing.assert_close(embedded.columns["loss"], losses, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(embedded.columns["norm"], expected.norm(dim=1), rtol=1e-5, atol=0)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
def test_equals_autograd_in_double_precision(kind):
    gradients = embedder(kind, dtype=torch.float64, labels="whole", normalize=False)
    expected, _ = by_autograd(gradients, ROWS)
    features = gradients.embed(ROWS).features
    torch.testing.assert_close(features, expected.float(), rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


def test_inner_products_are_those_of_the_gradients():
    """One layer, with room for everything: nothing is lost, and the Gram matrix is the empirical NTK itself."""
    options = {"rank": 256, "dimension": 4096, "modules": ["layers.1.mlp.down_proj"], "normalize": False}
    gradients = embedder(dtype=torch.float64, **options)
    features, whole = gradients.embed(ROWS).features, []
    for row in gradients.prepare(ROWS):
        value = dense.loss(gradients.model, row.input_ids, row.prompt_length)
        whole.append(dense.gradients(gradients.model, gradients.layers, lambda value=value: value)[0].flatten())
    exact, features = torch.stack(whole) @ torch.stack(whole).T, features.double()
    torch.testing.assert_close(features @ features.T, exact, rtol=1e-5, atol=1e-6 * float(exact.max()))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_do_not_depend_on_their_batch(kind):
    alone = torch.cat([embedder(kind).embed([row]).features for row in ROWS])
    order = [3, 0, 4, 2, 1]
    for side, batch_tokens in (("left", 10_000), ("right", 40)):
        options = {"tokenizer": tiny_tokenizer(padding_side=side), "batch_tokens": batch_tokens}
        together = embedder(kind, **options).embed([ROWS[i] for i in order]).features
        assert (together - alone[order]).norm(dim=1).max() < 1e-5


def test_nan_at_padding_does_not_reach_the_features():
    """NaN that a layer sees at padding, on the way there and on the way back, does not reach the features."""
    model, last = tiny_model(), "layers.2.mlp.down_proj"
    expected = embedder(modules=[last]).embed(ROWS).features

    def spoil(_module, _args, output):
        if output.shape[1] > 1 and spoil.mask is not None:
            output = torch.where(spoil.mask[..., None], output, torch.nan)
        return output

    gradients = Gradients(model, tokenizer=tokenizer(), modules=[last], **SMALL)
    gradients._head.check(torch.tensor([[5, 6]]))
    begin = gradients._capture.begin

    def begin_and_tell(mask, scale):
        spoil.mask = mask.bool()
        begin(mask, scale)

    spoil.mask = None
    gradients._capture.begin = begin_and_tell
    model.model.layers[2].mlp.act_fn.register_forward_hook(spoil)
    assert dense.difference(gradients.embed(ROWS).features, expected) < 1e-5


# --- what a pass leaves behind


def state(model):
    return (
        {name: (p.requires_grad, p.grad is None) for name, p in model.named_parameters()},
        {name: module.training for name, module in model.named_modules()},
        sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in model.modules()),
    )


@pytest.mark.parametrize("kind", ["lora", "checkpointing", "reentrant"])
def test_modes_hooks_and_requires_grad_are_restored(kind):
    model = make(kind).train()
    next(iter(model.parameters())).requires_grad_(False)
    next(m for m in model.modules() if isinstance(m, torch.nn.ModuleList))[1].eval()
    gradients = Gradients(model, tokenizer=tokenizer(), modules="all", **SMALL)
    before, random = state(model), torch.get_rng_state()
    first = gradients.embed(ROWS).features
    assert state(model) == before
    with torch.no_grad():
        torch.testing.assert_close(gradients.embed(ROWS).features, first)
    with torch.inference_mode():
        torch.testing.assert_close(gradients.embed(ROWS).features, first)
    assert torch.equal(torch.get_rng_state(), random)
    assert not first.requires_grad

    gradients._head.gradient = lambda *_: (_ for _ in ()).throw(KeyError("broken"))
    with pytest.raises(KeyError):
        gradients.embed(ROWS)
    assert state(model) == before


def test_gradients_of_the_user_are_not_changed():
    model = tiny_model()
    model(input_ids=torch.tensor([[5, 6, 7]])).logits.sum().backward()
    before = {name: p.grad.clone() for name, p in model.named_parameters()}
    Gradients(model, tokenizer=tokenizer(), **SMALL).embed(ROWS)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter.grad, before[name])


def test_dropout_is_off():
    model = tiny_model("gpt2", resid_pdrop=0.5, attn_pdrop=0.5, embd_pdrop=0.5).train()
    gradients = Gradients(model, tokenizer=tokenizer(), **SMALL)
    torch.testing.assert_close(gradients.embed(ROWS).features, gradients.embed(ROWS).features)


@pytest.mark.parametrize("reentrant", [False, True])
def test_gradient_checkpointing_is_used(reentrant):
    model = tiny_model()
    model.gradient_checkpointing_enable({"use_reentrant": reentrant})
    calls = []
    model.model.layers[1].mlp.act_fn.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    gradients = Gradients(model, tokenizer=tokenizer(), **SMALL)
    gradients.embed(ROWS)
    calls.clear()
    projections, project = [], gradients.sketch.inputs
    gradients.sketch.inputs = lambda layer, *rest: projections.append(layer.name) or project(layer, *rest)
    gradients.embed(ROWS)
    assert len(calls) == 2, "the block did not run again on the way back"
    # q, k and v share theirs, gate and up too; what runs again is not projected again.
    assert len(projections) == 3 * 4


def test_no_weight_gradient_and_no_large_logits_are_made():
    """The largest tensor that a pass makes is smaller than (B, T, V)."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        size = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if isinstance(result, torch.Tensor) and func.overloadpacket not in (
                torch.ops.aten.t,
                torch.ops.aten.detach,
            ):
                self.size = max(self.size, result.numel())
            return result

    model = tiny_model(vocab_size=20_000)
    gradients = Gradients(model, tokenizer=tokenizer(), **SMALL)
    rows = [{"prompt": " ".join(SENTENCES[:3]), "completion": " Yes"}] * 8
    gradients.embed(rows)
    length = len(gradients.prepare(rows)[0].input_ids)
    with Largest() as largest:
        gradients.embed(rows)
    labels = 8 * label_count(gradients.prepare(rows)[0], gradients.labels)
    assert labels < 8 * length / 10
    assert largest.size <= 20_000 * max(labels, 32) < 20_000 * 8 * length / 3


# --- labels


def test_rows_without_a_label():
    rows = [ROWS[0], {"prompt": "No answer here"}, {"prompt": "What", "completion": ""}]
    gradients = embedder()
    with pytest.warns(UserWarning, match=r"2 row\(s\) have no completion .* first is row 11\)") as warnings_list:
        embedded = gradients.embed(rows, first_row=10)
    assert len(warnings_list) == 1
    assert embedded.features[1:].count_nonzero() == 0
    assert embedded.columns["loss"].isnan().tolist() == [False, True, True]
    assert embedded.columns["norm"].tolist()[1:] == [0, 0]
    assert dense.difference(embedded.features[:1], embedder().embed(ROWS[:1]).features) < 1e-5
    torch.testing.assert_close(embedded.features[0].norm(), torch.tensor(1.0))


def test_no_row_with_a_label():
    with pytest.raises(ValueError, match=r"row 7 has no label for labels='completion'.*labels='predicted'"):
        embedder().embed([{"prompt": "What?"}, {"prompt": "Why?"}], first_row=7)
    gradients = embedder()
    gradients.check(ROWS)  # a driver reads all rows before: the others have completions
    with pytest.warns(UserWarning, match=r"1 row\(s\) have no completion"):
        assert gradients.embed([{"prompt": "What?"}]).features.count_nonzero() == 0


def test_a_completion_that_truncation_removes_is_no_label():
    with pytest.warns(UserWarning, match=r"row\(s\)") as warnings_list:
        embedded = embedder(max_length=8).embed([ROWS[3], ROWS[2]])
    assert any("1 row(s) have no completion" in str(w.message) for w in warnings_list)
    assert embedded.columns["loss"].isnan().tolist() == [False, True]


def test_predicted_labels_need_no_completion_and_do_not_read_it():
    gradients = embedder(labels="predicted")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        without = gradients.embed([{"prompt": row["prompt"]} for row in ROWS])
    torch.testing.assert_close(without.features, gradients.embed(ROWS).features)
    assert without.columns["tokens"][3] == len(tokenizer()("Paris")["input_ids"])
    assert gradients.fingerprint()["span"] == "prompt"


def test_with_labels_shares_the_sketch():
    pool = embedder(labels="completion")
    targets = pool.with_labels("predicted")
    assert targets.sketch is pool.sketch
    assert pool.labels == "completion"
    torch.testing.assert_close(targets.embed(ROWS).features, embedder(labels="predicted").embed(ROWS).features)
    torch.testing.assert_close(pool.embed(ROWS).features, embedder().embed(ROWS).features)
    assert targets.fingerprint() == embedder(labels="predicted").fingerprint()


def test_without_completions_of_the_targets_labels_are_predicted(caplog):
    pool, bare = embedder(), [{"prompt": "What?"}, {"prompt": "Why?", "completion": ""}]
    assert pool.for_targets(bare).labels == "predicted"
    assert "gradients of pool and targets are taken on the labels that the model predicts" in caplog.text
    assert pool.for_targets([ROWS[0], ROWS[0]]) is pool
    with pytest.raises(ValueError, match=r"targets: row 0 has no completion and row \d has one"):
        pool.for_targets([*bare, ROWS[0]])
    assert embedder(labels="whole").for_targets(bare).labels == "whole"


def test_whole_reads_plain_text():
    embedded = embedder(labels="whole").embed([{"text": text} for text in SENTENCES])
    assert embedded.columns["loss"].isfinite().all()


# --- the embedder's contract


def test_embedded_and_storage():
    gradients = embedder()
    embedded = gradients.embed(ROWS)
    assert isinstance(embedded, Embedded)
    assert set(embedded.columns) == {"tokens", "norm", "loss"}
    assert embedded.features.shape == (5, gradients.dimension)
    assert gradients.storage_dtype == "float16"
    torch.testing.assert_close(embedded.features.norm(dim=1), torch.ones(5))
    half_precision = embedded.features.half().float()
    assert (half_precision @ half_precision.T - embedded.features @ embedded.features.T).abs().max() < 1e-3
    assert embedder(normalize=False).storage_dtype == "float32"


def test_prepared_equals_embed_and_counts_rows():
    gradients, counts = embedder(batch_tokens=30), []
    tokens = gradients.prepare(ROWS, 3)
    features = gradients.embed_prepared(tokens, on_rows=counts.append).features
    torch.testing.assert_close(features, gradients.embed(ROWS).features)
    assert sum(counts) == len(ROWS)
    assert len(counts) > 1


def test_out_of_memory_goes_on_with_smaller_batches(monkeypatch):
    gradients = embedder()
    expected, begin = gradients.embed(ROWS).features, gradients._capture.begin

    def refuse(mask, scale):
        if len(mask) > 2:
            raise torch.OutOfMemoryError("out of memory")
        begin(mask, scale)

    monkeypatch.setattr(gradients._capture, "begin", refuse)
    assert dense.difference(gradients.embed(ROWS).features, expected) < 1e-5


@pytest.mark.parametrize(("dtype", "similar"), [("bfloat16", 0.99), ("float16", 0.999)])
def test_half_precision(dtype, similar, tmp_path):
    model = tiny_model()
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    half = Gradients(tmp_path, dtype=dtype, modules="all", **SMALL)
    embedded, exact = half.embed(ROWS), embedder(normalize=False).embed(ROWS)
    assert torch.cosine_similarity(embedded.features, exact.features).min() > similar
    torch.testing.assert_close(embedded.columns["norm"], exact.columns["norm"], rtol=0.05, atol=0)
    assert half.fingerprint()["dtype"] == dtype


def test_fingerprint_depends_on_every_setting():
    base = embedder().fingerprint()
    others = {
        "layers": embedder(modules=["q_proj"]),
        "dimension": embedder(dimension=128),
        "rank": embedder(rank=8),
        "seed": embedder(seed=1),
        "labels": embedder(labels="whole"),
        "normalize": embedder(normalize=False),
        "max_length": embedder(max_length=64),
        "chat_template": embedder(tokenizer=tiny_tokenizer(chat_template=False)),
    }
    for key, other in others.items():
        assert {name for name, value in other.fingerprint().items() if value != base[name]} == {key}
    assert embedder(batch_tokens=7).fingerprint() == base


@pytest.mark.parametrize("part", ["lm_head", "model.layers.2.mlp.down_proj", "model.norm"])
def test_fingerprint_depends_on_every_single_weight(part):
    model = tiny_model()
    gradients = Gradients(model, tokenizer=tokenizer(), **SMALL)
    before = gradients.fingerprint()
    gradients.embed(ROWS)
    assert gradients.fingerprint() == before
    with torch.no_grad():
        model.get_submodule(part).weight.view(-1)[3] += 1e-3
    assert gradients.fingerprint()["weights"] != before["weights"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"labels": "prompt"}, "labels must be one of"),
        ({"modules": "v_proj"}, "modules must be 'all' or a list"),
        ({"modules": []}, "modules is empty"),
        ({"modules": ["lm_head"]}, r"no linear layer is called 'lm_head'.*'v_proj'"),
        ({"dimension": 0}, "dimension must be a whole number of at least 1"),
        ({"rank": 0}, "rank must be a whole number of at least 1"),
        ({"batch_tokens": 0}, "batch_tokens"),
        ({"max_length": 129}, "more than the model's context"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        embedder(**options)


@pytest.mark.parametrize("architecture", ["bert", "t5"])
def test_models_without_next_tokens_are_refused(architecture):
    with pytest.raises(TypeError, match="causal language model"):
        Gradients(tiny_model(architecture), tokenizer=tokenizer())
    with pytest.raises(TypeError, match="causal language model"):
        Gradients(tiny_model(head=False), tokenizer=tokenizer())
    with pytest.raises(TypeError, match="transformers model"):
        Gradients(torch.nn.Linear(2, 2), tokenizer=tokenizer())


def test_prompt_learning_is_refused():
    import peft

    config = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    with pytest.raises(TypeError, match="virtual tokens"):
        Gradients(peft.get_peft_model(tiny_model(), config), tokenizer=tokenizer())


def test_an_untrained_adapter_gives_the_base_models_features():
    with_adapter = Gradients(add_adapter(tiny_model(), is_trained=False), tokenizer=tokenizer(), modules="all", **SMALL)
    assert not any(layer.adapter for layer in with_adapter.layers)
    assert dense.difference(with_adapter.embed(ROWS).features, embedder().embed(ROWS).features) < 1e-5


def test_a_selector_embeds_pool_and_targets_on_the_same_labels():
    rows = [{"prompt": f"{a} + {b} =", "completion": f" {a + b}"} for a, b in [(1, 2), (3, 4), (5, 6), (7, 8)]]
    record = Selector(embedder()).select(rows, [{"prompt": "2 + 2 ="}], 2).record
    assert record.embedder["labels"] == record.targets_embedder["labels"] == "predicted"
    record = Selector(embedder()).select(rows, rows[:1], 2).record
    assert record.embedder["labels"] == record.targets_embedder["labels"] == "completion"
