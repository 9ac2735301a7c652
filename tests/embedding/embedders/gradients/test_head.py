import pytest
import torch

from itl_hf.embedding.embedders.gradients import head as module
from itl_hf.embedding.embedders.gradients.head import Head
from itl_hf.embedding.embedders.gradients.labels import Labels
from tests.embedding.embedders.gradients.models import add_adapter, gemma2
from tests.tiny_models import tiny_model

IDS = torch.tensor([[5, 6, 7, 8, 9], [9, 8, 7, 6, 5]])
ROWS, POSITIONS = torch.tensor([0, 0, 0, 1]), torch.tensor([1, 2, 4, 3])
WEIGHTS = torch.tensor([1 / 3, 1 / 3, 1 / 3, 1.0])


def adapted_head():
    model = tiny_model()
    add_adapter(model, target_modules=["lm_head"])
    return model


def plain(model, hidden, tokens):
    """The loss of each row, with all logits of the model's own head."""
    hidden = hidden.clone().requires_grad_()

    def replace(_module, _args, output):
        output.last_hidden_state = hidden
        return output

    handle = model.base_model.register_forward_hook(replace)
    logits = model(input_ids=IDS).logits
    handle.remove()
    tokens = logits.argmax(-1)[ROWS, POSITIONS] if tokens is None else tokens
    losses = torch.nn.functional.cross_entropy(logits[ROWS, POSITIONS], tokens, reduction="none") * WEIGHTS
    each = torch.zeros(2).index_add(0, ROWS, losses)
    return torch.autograd.grad(each.sum(), hidden)[0], each.detach()


@pytest.mark.parametrize("chunk", [1, 900, 2**25])
@pytest.mark.parametrize("tokens", [torch.tensor([3, 7, 20, 11]), None])
@pytest.mark.parametrize("build", [tiny_model, gemma2, adapted_head, lambda: tiny_model("qwen2")])
def test_equals_autograd_through_all_logits(build, tokens, chunk, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", chunk)
    model = build().requires_grad_(False).eval()
    head = Head(model)
    head.check(IDS[:1])
    assert head._is_linear is (build not in (gemma2, adapted_head))
    hidden = model.base_model(input_ids=IDS).last_hidden_state
    gradient, loss = head.gradient(hidden, Labels(ROWS, POSITIONS, tokens, WEIGHTS))
    expected, losses = plain(model, hidden, tokens)
    torch.testing.assert_close(gradient, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(loss, losses)
    scaled, same = head.gradient(hidden, Labels(ROWS, POSITIONS, tokens, WEIGHTS), 8.0)
    torch.testing.assert_close(scaled, 8 * gradient)
    assert torch.equal(same, loss)


def test_logits_that_do_not_follow_from_the_last_states_are_refused():
    model = tiny_model()
    model.register_forward_hook(lambda _m, args, out: setattr(out, "logits", out.logits + torch.rand_like(out.logits)))
    with pytest.raises(TypeError, match="could not be computed from its last hidden states"):
        Head(model).check(IDS[:1])
