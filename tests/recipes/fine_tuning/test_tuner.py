"""The optimizations of the benchmark's trainer are exact: losses equal those of the whole model on each row alone."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from recipes.benchmarks.fine_tuning.tuner import Training, Tuner, apart, in_budget

ROWS = [
    {"prompt": "Reverse the words: red green blue.", "completion": " blue green red"},
    {"prompt": "two and three?", "completion": " five"},
    {"prompt": "The capital of France", "completion": " is Paris."},
]


@pytest.fixture(scope="module")
def tuner(model_path):
    return Tuner(model_path, Training(batch_size=2, learning_rate=0.01))


def whole_loss(model, tokens):
    ids = torch.tensor([tokens.input_ids])
    labels = ids.clone()
    labels[:, : tokens.prompt_length] = -100
    return float(model(input_ids=ids, labels=labels).loss)


def test_losses_are_those_of_the_whole_model_on_each_row_alone(tuner, model_path):
    model = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32).eval()
    with torch.no_grad():
        reference_losses = [whole_loss(model, tokens) for tokens in tuner.tokenize(ROWS)]
    losses, exact = tuner.measure(ROWS)
    assert losses == pytest.approx(reference_losses, abs=1e-5)
    assert len(exact) == 3


def test_training_lowers_the_loss_of_its_rows_and_is_undone(tuner):
    before, _ = tuner.measure(ROWS)
    with tuner.training_on(ROWS * 4, seed=0):
        during, _ = tuner.measure(ROWS)
    after, _ = tuner.measure(ROWS)
    assert sum(during) < sum(before) - 0.1
    assert after == before


def test_the_same_seed_gives_the_same_losses_and_another_does_not(tuner):
    losses = []
    for seed in (0, 0, 1):
        with tuner.training_on(ROWS, seed):
            losses.append(tuner.measure(ROWS)[0])
    assert losses[0] == losses[1] != losses[2]


def test_only_the_upper_layers_have_adapters(model_path):
    for share, layers in ((0.5, 2), (0.0, 4)):
        tuner = Tuner(model_path, Training(first_layer=share))
        assert len(tuner.model.model.layers) == layers


def test_a_row_without_a_response_is_refused(model_path):
    tuner = Tuner(model_path, Training(max_length=4))
    with pytest.raises(ValueError, match="nothing of a response"):
        tuner.examples(ROWS)


def test_rows_in_one_sequence_do_not_attend_to_each_other():
    mask = apart([2, 1], torch.device("cpu"))["attention_mask"][0, 0]
    assert mask.tolist() == [[True, False, False], [True, True, False], [False, False, True]]


def test_groups_have_at_most_the_given_number_of_tokens(tuner):
    examples = tuner.examples(ROWS)
    groups = list(in_budget(examples, 20))
    assert [example for group in groups for example in group] == examples
    assert all(len(group) == 1 or sum(len(e.states) for e in group) <= 20 for group in groups)
