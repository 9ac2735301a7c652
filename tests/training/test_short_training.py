"""Warm-ups and losses of responses, against a plain training loop and the model's own loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from itl_hf import Gradients
from itl_hf.text import RowTokenizer
from itl_hf.training import WarmUpOptions, response_losses, warm_up
from tests.tiny_models import tiny_model, tiny_tokenizer

ROWS = [
    {"prompt": f"Reverse {word}:", "completion": f" {word[::-1]}"} for word in ("stone", "river", "sky", "garden", "a")
]
OPTIONS = WarmUpOptions(epochs=3, batch_size=2, learning_rate=0.01, lora_r=2)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model("llama", layers=2).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def whole_loss(model, row, max_length=1024):
    tokens = RowTokenizer(tiny_tokenizer(), max_length=max_length)([row])[0]
    ids = torch.tensor([tokens.input_ids])
    labels = ids.clone()
    labels[:, : tokens.prompt_length] = -100
    return float(model(input_ids=ids, labels=labels).loss)


def test_losses_are_those_of_each_row_alone(path):
    model = AutoModelForCausalLM.from_pretrained(path).eval()
    expected = [whole_loss(model, row) for row in ROWS]
    for size in (1, 2, 16):
        np.testing.assert_allclose(response_losses(path, ROWS, batch_size=size), expected, rtol=1e-5)
    model.train()
    assert response_losses(model, ROWS, tokenizer=tiny_tokenizer()).shape == (5,)
    assert model.training


def test_a_warm_up_learns_is_repeatable_and_leaves_the_model_as_it_was(path):
    model = AutoModelForCausalLM.from_pretrained(path)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    runs = []
    for _ in range(2):
        losses, rates = [response_losses(model, ROWS, tokenizer=tiny_tokenizer()).mean()], []
        for checkpoint in warm_up(model, ROWS, OPTIONS, tokenizer=tiny_tokenizer()):
            losses.append(response_losses(checkpoint.model, ROWS, tokenizer=checkpoint.tokenizer).mean())
            rates.append(checkpoint.learning_rate)
        runs.append((losses, rates))
    assert runs[0] == runs[1]
    assert runs[0][0] == sorted(runs[0][0], reverse=True)
    # Nine steps of a rate that falls linearly from its peak; 3% of nine steps are none.
    np.testing.assert_allclose(rates, 0.01 * (1 - np.arange(9) / 9).reshape(3, 3).mean(1))
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(weight, after[name]) for name, weight in before.items())


def test_embedders_of_a_checkpoint_are_adams_for_the_pool_and_plain_for_targets(path):
    for epoch, checkpoint in enumerate(warm_up(path, ROWS, OPTIONS), 1):
        pool, targets = checkpoint.embedders(dimension=64)
        assert all(layer.adapter for layer in pool.layers)
        assert (pool.adam.kind, targets.adam) == ("update", None)
        steps = {int(state["step"]) for state in pool.adam.state.values()}
        assert steps == {3 * epoch}
        plain = Gradients(checkpoint.model, tokenizer=checkpoint.tokenizer, dimension=64).embed(ROWS).features
        torch.testing.assert_close(targets.embed(ROWS).features, plain)
        cosines = torch.nn.functional.cosine_similarity(pool.embed(ROWS).features, plain)
        assert cosines.abs().max() < 0.999


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda path: WarmUpOptions(epochs=0), "epochs must be at least 1"),
        (lambda path: WarmUpOptions(learning_rate=0.0), "learning_rate must be positive"),
        (lambda path: next(warm_up(path, [])), "at least one row"),
        (lambda path: next(warm_up(path, [*ROWS, {"prompt": "Hi"}])), "row 5 has no response"),
        (lambda path: response_losses(path, ROWS, max_length=3), "row 0 has no response"),
    ],
)
def test_rows_without_a_response_and_wrong_options_are_refused(path, call, message):
    with pytest.raises(ValueError, match=message):
        call(path)
