import pytest
import torch
from transformers.pytorch_utils import Conv1D

from itl_hf.embedding.embedders.gradients import AdamPreconditioner, Gradients
from tests.embedding.embedders.gradients import dense
from tests.embedding.embedders.gradients.models import ROWS, add_adapter, tokenizer
from tests.tiny_models import tiny_model

SMALL = {"dimension": 256, "rank": 16, "normalize": False}


def make_trained_optimizer(model, steps=3, **options):
    """An AdamW that has made a few steps on the model's trainable weights."""
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, **options)
    with torch.random.fork_rng(devices=[]):
        for step in range(steps):
            torch.manual_seed(step)
            ids = torch.randint(5, 300, (2, 8))
            model(input_ids=ids, labels=ids).loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    model.eval()
    return optimizer


def whole(gradients, row):
    tokens = gradients.prepare([row])[0]
    value = dense.loss(gradients.model, tokens.input_ids, tokens.prompt_length)
    return dense.gradients(gradients.model, gradients.layers, lambda: value)


def expected(gradients, change):
    rows = []
    for row in ROWS:
        gradient_list = [change(layer, g) for layer, g in zip(gradients.layers, whole(gradients, row), strict=True)]
        rows.append(dense.features(gradients.sketch, gradients.layers, gradient_list))
    gradients.model.requires_grad_(True)
    return torch.stack(rows)


def assert_close(features, reference):
    assert ((features - reference).norm(dim=1) / reference.norm(dim=1)).max() < 1e-5


@pytest.fixture(scope="module")
def lora():
    model = add_adapter(tiny_model())
    return model, make_trained_optimizer(model, betas=(0.8, 0.95), eps=1e-6)


def of(optimizer, layer):
    return optimizer.state[layer.module.weight]


def test_lora_kernel_is_exact(lora):
    model, optimizer = lora
    adam = AdamPreconditioner.from_optimizer(optimizer, model)
    gradients = Gradients(model, tokenizer=tokenizer(), adam=adam, **SMALL)
    assert all(layer.adapter for layer in gradients.layers)

    def change(layer, g):
        second = of(optimizer, layer)["exp_avg_sq"] / (1 - 0.95**3)
        return g / (second.sqrt() + 1e-6).sqrt()

    assert_close(gradients.embed(ROWS).features, expected(gradients, change))


def test_lora_update_is_that_of_less(lora):
    """Gamma is what Adam itself would do next, given that example alone."""
    model, optimizer = lora
    adam = AdamPreconditioner.from_optimizer(optimizer, model, kind="update")
    gradients = Gradients(model, tokenizer=tokenizer(), adam=adam, **SMALL)

    def change(layer, g):
        weight = torch.nn.Parameter(torch.zeros_like(g))
        alone = torch.optim.Adam([weight], lr=1.0, betas=(0.8, 0.95), eps=1e-6)
        weight.grad = torch.zeros_like(g)
        alone.step()
        weight.data.zero_()
        state = of(optimizer, layer)
        alone.state[weight].update({key: value.clone() for key, value in state.items()})
        weight.grad = g.clone()
        alone.step()
        return -weight.detach()

    assert_close(gradients.embed(ROWS).features, expected(gradients, change))


def test_update_in_float16_accounts_for_the_scale():
    """The update is not linear in the gradient, which is scaled up on its way back in float16."""
    model = add_adapter(tiny_model())
    optimizer = make_trained_optimizer(model)
    adam = AdamPreconditioner.from_optimizer(optimizer, model, kind="update")
    exact = Gradients(model, tokenizer=tokenizer(), adam=adam, **SMALL).embed(ROWS)
    half = Gradients(model.half(), tokenizer=tokenizer(), adam=adam, **SMALL).embed(ROWS)
    assert torch.cosine_similarity(half.features, exact.features).min() > 0.99
    torch.testing.assert_close(half.columns["norm"], exact.columns["norm"], rtol=0.05, atol=0)


def test_kernel_is_the_influence_of_an_example():
    """<kernel features> = <g, Gamma> where the moments are settled: without momentum, and v large beside g^2."""
    g, h = torch.randn(2, 1, 4, 6, dtype=torch.float64)
    second = 1e6 * torch.rand(4, 6, dtype=torch.float64)
    from itl_hf.embedding.embedders.gradients.adam import Exact

    long = 10**6
    kernel = Exact(second, None, long, (0.9, 0.999), 1e-8)
    update = Exact(second, torch.zeros(4, 6), long, (0.9, 0.999), 1e-8)
    influence = (h * update(g)).sum() / 0.1  # the part of g in m'
    torch.testing.assert_close((kernel(h) * kernel(g)).sum(), influence, rtol=1e-3, atol=1e-9)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_other_layers_are_rescaled_by_adafactors_factors(architecture):
    model = tiny_model(architecture)
    optimizer = make_trained_optimizer(model, eps=1e-12)
    adam = AdamPreconditioner.from_optimizer(optimizer, model)
    gradients = Gradients(model, tokenizer=tokenizer(), adam=adam, **SMALL)

    def change(layer, g):
        second = of(optimizer, layer)["exp_avg_sq"] / (1 - 0.999**3)
        second = second.T if isinstance(layer.module, Conv1D) else second
        factors = torch.outer(second.mean(1), second.mean(0)) / second.mean()
        return g / factors.sqrt().sqrt()

    features, reference = gradients.embed(ROWS).features, expected(gradients, change)
    assert ((features - reference).norm(dim=1) / reference.norm(dim=1)).max() < 1e-3  # eps stands on either side


def test_adafactors_own_state():
    model = tiny_model()
    optimizer = make_trained_optimizer(model)
    names = {name: p for name, p in model.named_parameters() if p in optimizer.state}
    second = {name: optimizer.state[p]["exp_avg_sq"] for name, p in names.items()}
    row_and_column_state = {
        name: {"exp_avg_sq_row": v.mean(-1), "exp_avg_sq_col": v.mean(-2)} for name, v in second.items() if v.ndim == 2
    }
    full = {name: {"exp_avg_sq": v} for name, v in second.items()}
    features = [
        Gradients(model, tokenizer=tokenizer(), adam=AdamPreconditioner(state), **SMALL).embed(ROWS).features
        for state in (row_and_column_state, full)
    ]
    assert dense.difference(*features) < 1e-5


def test_fingerprint_depends_on_the_state(lora):
    model, optimizer = lora
    plain = Gradients(model, tokenizer=tokenizer(), **SMALL).fingerprint()
    adam = AdamPreconditioner.from_optimizer(optimizer, model)
    one = Gradients(model, tokenizer=tokenizer(), adam=adam, **SMALL).fingerprint()
    adam.state["model.layers.0.self_attn.q_proj.lora_A.default.weight"]["exp_avg_sq"] = torch.ones(4, 32)
    two = Gradients(model, tokenizer=tokenizer(), adam=adam, **SMALL).fingerprint()
    assert len({plain["adam"], one["adam"], two["adam"]}) == 3
    assert {key for key, value in one.items() if value != plain[key]} == {"adam"}


def test_missing_state_is_named_in_the_error(lora):
    model, optimizer = lora
    with pytest.raises(ValueError, match="kind must be one of"):
        AdamPreconditioner({}, kind="sgd")
    with pytest.raises(ValueError, match="it has made no step yet"):
        AdamPreconditioner.from_optimizer(torch.optim.AdamW(model.parameters()), model)
    adam = AdamPreconditioner.from_optimizer(optimizer, model)
    with pytest.raises(ValueError, match=r"nothing about model\.layers\.0\.self_attn\.q_proj\.base_layer\.weight"):
        Gradients(model, tokenizer=tokenizer(), modules=["q_proj.base_layer"], adam=adam)
    update = AdamPreconditioner.from_optimizer(optimizer, model, kind="update")
    with pytest.raises(ValueError, match="is not a LoRA layer"):
        Gradients(model, tokenizer=tokenizer(), modules=["q_proj.base_layer"], adam=update)
