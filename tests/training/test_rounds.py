"""Active rounds with a plain Trainer: the picks, the state of training around selecting, and resuming."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import torch
from transformers import Trainer, TrainerCallback

from itl_hf import Embedder, HiddenStates, SelectionConstraints, Selector, StopWhen
from itl_hf.training import attach, picks_of
from itl_hf.training.attachment import attachment_of
from itl_hf.training.resume import STATE_NAME
from tests.training import tiny

PER_ROUND = 6


class CountingEmbedder(HiddenStates):
    """Counts the rows that the model embeds; rows read from a store are not counted."""

    rows_read = 0

    def embed_prepared(self, prepared, **options):
        self.rows_read += len(prepared)
        return super().embed_prepared(prepared, **options)


def counting_embedder(trainer):
    return CountingEmbedder(trainer.model, tokenizer=tiny.tokenizer(), layer=2)


def active(directory, dataset=None, store=None, base=Trainer, options=None, **changes):
    """Returns a trainer of three rounds of six rows, three steps each."""
    dataset = tiny.pool(text=True) if dataset is None else dataset
    trainer = tiny.trainer(directory, dataset=dataset, base=base, **{"num_train_epochs": 3, **changes})
    trainer.embedder = counting_embedder(trainer)
    selector = Selector(trainer.embedder, store=store)
    round_arguments = {"targets": tiny.TARGETS, "examples_per_round": PER_ROUND, **(options or {})}
    return tiny.without_warnings(attach, trainer, selector, **round_arguments)


def by_round(trainer):
    return [trainer.rows[start : start + PER_ROUND] for start in range(0, len(trainer.rows), PER_ROUND)]


class ReferenceSelection(TrainerCallback):
    """Selects before each epoch without active rounds, conditioned on the rows that it picked before."""

    def __init__(self, **options):
        self.options, self.known_rows, self.picks = options, [], []

    def on_epoch_begin(self, args, state, control, model=None, **kwargs):
        random_state = torch.get_rng_state()
        selection = tiny.select(
            tiny.pool(text=True), PER_ROUND, model, already_selected=self.known_rows, **self.options
        )
        self.picks.append(selection.indices.tolist())
        self.known_rows += self.picks[-1]
        torch.set_rng_state(random_state)


def test_each_round_is_selected_with_the_model_as_it_is_by_then(tmp_path):
    trainer = active(tmp_path)
    reference = ReferenceSelection()
    trainer.add_callback(reference)
    trainer.train()
    assert by_round(trainer) == reference.picks
    assert [picks.tolist() for picks in picks_of(trainer)] == reference.picks
    assert len(set(trainer.rows)) == 3 * PER_ROUND
    # The untrained model picks other rows, so the rounds depend on training.
    assert tiny.select(tiny.pool(text=True), 3 * PER_ROUND).indices.tolist() != trainer.rows


def test_rows_are_picked_again_only_with_replace(tmp_path):
    trainer = active(
        tmp_path, dataset=tiny.pool(8, text=True), options={"constraints": SelectionConstraints(replace=True)}
    )
    trainer.train()
    assert len(trainer.rows) == 3 * PER_ROUND
    assert len(set(trainer.rows)) < len(trainer.rows)


def test_candidates_are_drawn_in_each_round_and_trained_rows_are_conditioned_on(tmp_path):
    trainer = active(tmp_path, options={"candidates_per_round": 10, "seed": 5, "already_selected": [0, 1]})
    trainer.train()
    known_rows, num_rows_read = {0, 1}, 0
    for number, picks in enumerate(by_round(trainer)):
        candidates = np.random.default_rng([5, number]).choice(sorted(set(range(40)) - known_rows), 10, replace=False)
        assert set(picks) <= set(candidates.tolist())
        num_rows_read += 10 + len(known_rows) + len(tiny.TARGETS)
        known_rows |= set(picks)
    assert trainer.embedder.rows_read == num_rows_read
    assert len(known_rows) == 2 + 3 * PER_ROUND


def test_rows_trained_on_before_are_conditioned_on_and_not_only_left_out(tmp_path):
    known_rows = tiny.select(tiny.pool(text=True), 12).indices.tolist()
    trainer = active(tmp_path, num_train_epochs=1, options={"already_selected": known_rows})
    trainer.train()
    others = sorted(set(range(40)) - set(known_rows))
    left_out = tiny.select(tiny.pool(text=True).select(others), PER_ROUND).indices
    assert trainer.rows == tiny.select(tiny.pool(text=True), PER_ROUND, already_selected=known_rows).indices.tolist()
    assert trainer.rows != [others[row] for row in left_out]


@pytest.mark.parametrize(
    "changes",
    [{}, {"bf16": True, "gradient_checkpointing": True}, {"gradient_accumulation_steps": 2}],
    ids=["plain", "bf16 and checkpointing", "accumulation"],
)
def test_selecting_does_not_change_training(tmp_path, changes):
    trainer = active(tmp_path, num_train_epochs=1, **changes)
    trainer.train()
    plain = attach(tiny.trainer(tmp_path, dataset=tiny.pool(text=True), **changes), trainer.rows)
    plain.train()  # the same rows without selecting; the model has dropout
    assert plain.rows == trainer.rows
    tiny.assert_same_weights(tiny.adapter(plain), tiny.adapter(trainer))


@pytest.mark.parametrize("changes", [{}, {"bf16": True, "gradient_checkpointing": True}], ids=["plain", "mixed"])
def test_gradients_of_the_live_adapters_do_not_change_training(tmp_path, changes):
    gradients = pytest.importorskip("itl_hf.embedding.embedders.gradients")
    trainer = tiny.trainer(tmp_path, dataset=tiny.pool(text=True), **changes)
    embedder = gradients.Gradients(trainer.model, tokenizer=tiny.tokenizer(), labels="predicted", dimension=64, rank=16)
    options = {"targets": tiny.TARGETS, "examples_per_round": PER_ROUND}
    tiny.without_warnings(attach, trainer, Selector(embedder), **options).train()
    assert trainer.rows == picks_of(trainer)[0].tolist()
    plain = attach(tiny.trainer(tmp_path, dataset=tiny.pool(text=True), **changes), trainer.rows)
    plain.train()
    assert plain.rows == trainer.rows
    tiny.assert_same_weights(tiny.adapter(plain), tiny.adapter(trainer))


class ChangesEverything(CountingEmbedder):
    """An embedder that changes all the state of the model and of the random generators that it can change."""

    def embed_prepared(self, prepared, **options):
        model = self.backbone.model
        model.eval()
        model.layers[0].register_forward_hook(lambda *_: torch.randn(1) and None)
        for parameter in model.parameters():
            parameter.requires_grad_(False)
            parameter.grad = torch.ones_like(parameter)
        _ = random.random(), np.random.random(), torch.randn(3)  # noqa: NPY002
        return super().embed_prepared(prepared, **options)


def test_an_embedder_that_changes_the_model_does_not_change_training(tmp_path):
    def train_with(kind):
        trainer = tiny.trainer(tmp_path, dataset=tiny.pool(text=True), num_train_epochs=2)
        embedder = kind(trainer.model, tokenizer=tiny.tokenizer(), layer=2)
        attach(trainer, Selector(embedder), targets=tiny.TARGETS, examples_per_round=PER_ROUND)
        trainer.train()
        hooks = sum(len(module._forward_hooks) for module in trainer.model.modules())
        return trainer, hooks, random.getstate(), np.random.get_state()[1].tolist()  # noqa: NPY002

    plain, *expected_state = train_with(CountingEmbedder)
    changing, *actual_state = train_with(ChangesEverything)
    assert actual_state == expected_state
    assert changing.rows == plain.rows
    tiny.assert_same_weights(tiny.adapter(changing), tiny.adapter(plain))


def test_every_order_trains_on_the_same_picks(tmp_path):
    gain = active(tmp_path, num_train_epochs=1)
    gain.train()
    for order in ("shuffled", "interleaved"):
        trainer = active(tmp_path, num_train_epochs=1, options={"order": order})
        trainer.train()
        assert sorted(trainer.rows) == sorted(gain.rows)
        assert trainer.rows != gain.rows


@pytest.mark.parametrize("checkpoint_step", [3, 4, 8], ids=["between rounds", "in the second", "in the third"])
def test_a_run_resumed_between_or_within_rounds_equals_an_uninterrupted_one(tmp_path, checkpoint_step):
    def fresh():
        return active(tmp_path, save_strategy="steps", save_steps=checkpoint_step, options={"order": "shuffled"})

    whole, resumed = fresh(), fresh()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{checkpoint_step}"))
    assert resumed.rows == whole.rows[2 * checkpoint_step :]
    tiny.assert_same_weights(tiny.adapter(resumed), tiny.adapter(whole))
    assert [picks.tolist() for picks in picks_of(resumed)] == [picks.tolist() for picks in picks_of(whole)]
    # Rounds that began before the checkpoint are not embedded again.
    num_begun = -(-checkpoint_step // 3)
    assert resumed.embedder.rows_read == (3 - num_begun) * (40 + len(tiny.TARGETS))


class Interrupted(TrainerCallback):
    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3:
            raise KeyboardInterrupt


def test_a_round_interrupted_before_its_checkpoint_reads_its_features_from_the_store(tmp_path):
    def active_with_store(name):
        return active(tmp_path / name, store=tmp_path / "store", save_strategy="steps", save_steps=3)

    whole = active(tmp_path / "whole")
    whole.train()
    cut = active_with_store("cut")
    cut.add_callback(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        cut.train()
    assert len(picks_of(cut)) == 2  # the second round was selected, but is in no checkpoint
    resumed = active_with_store("cut")
    resumed.train(resume_from_checkpoint=True)
    assert resumed.rows == whole.rows[6:]
    assert resumed.embedder.rows_read == 40 + len(tiny.TARGETS)  # only those of the third round


def test_the_checkpoint_holds_the_picks_of_all_rounds(tmp_path):
    trainer = active(tmp_path, save_strategy="steps", save_steps=5)
    trainer.train()
    state = json.loads((tmp_path / "checkpoint-5" / "trainer_state.json").read_text())
    saved_rounds = state["stateful_callbacks"][STATE_NAME]["selection"]["rounds"]
    assert [one["picks"] for one in saved_rounds] == by_round(trainer)[:2]


@pytest.fixture(scope="module")
def one_round(tmp_path_factory):
    """The checkpoint of a run of one round."""
    directory = tmp_path_factory.mktemp("one-round")
    active(directory, save_strategy="steps", save_steps=3, num_train_epochs=1).train()
    return str(directory / "checkpoint-3")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"examples_per_round": 4}, r"examples_per_round 6 \(here 4\)"),
        ({"candidates_per_round": 20}, r"candidates_per_round None \(here 20\)"),
        ({"targets": tiny.TARGETS[:2]}, "targets '"),
        ({"constraints": SelectionConstraints(replace=True)}, r"constraints {} \(here {'replace': True}\)"),
        ({"already_selected": [3]}, "already_selected '"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_resuming_with_other_rounds_is_refused(tmp_path, one_round, options, words):
    with pytest.raises(ValueError, match=f"another selection than the one attached now.*{words}"):
        active(tmp_path, options=options).train(resume_from_checkpoint=one_round)


def test_excluded_rows_and_shares_of_groups_hold_in_every_round(tmp_path):
    dataset = tiny.pool(text=True)
    labels = [row % 3 for row in range(len(dataset))]
    constraints = SelectionConstraints(exclude=dataset.select([0, 1]), groups=labels, group_shares=0.5)
    trainer = active(tmp_path, options={"constraints": constraints})
    trainer.train()
    texts = {str(dataset[row]["prompt"]) for row in (0, 1)}
    for rows in by_round(trainer):
        assert np.bincount([labels[row] for row in rows], minlength=3).max() <= PER_ROUND // 2
        assert not texts & {str(dataset[row]["prompt"]) for row in rows}


def test_groups_may_be_a_column_and_candidates_drawn(tmp_path):
    dataset = tiny.pool(text=True)
    dataset = dataset.add_column("source", [row % 3 for row in range(len(dataset))])
    options = {
        "constraints": SelectionConstraints(groups="source", group_shares=0.5),
        "candidates_per_round": 20,
        "pool": dataset,
    }
    trainer = active(tmp_path, dataset=tiny.pool(text=True), options=options)
    trainer.train()
    for rows in by_round(trainer):
        assert np.bincount([row % 3 for row in rows], minlength=3).max() <= PER_ROUND // 2


def test_rows_of_tiny_quality_are_picked_in_no_round(tmp_path):
    """The first ten rows; also where only some rows are embedded in a round."""
    quality = [1e-9] * 10 + [0.8] * 30
    dataset = tiny.pool(text=True).add_column("score", quality)
    weights = {"target_weights": [2.0, 1.0, 0.5]}
    for number, options in enumerate(
        ({"quality": quality, "candidates_per_round": 25}, {"quality": "score", "pool": dataset})
    ):
        trainer = active(tmp_path / str(number), dataset=tiny.pool(text=True), options={**options, **weights})
        trainer.train()
        assert min(row for rows in by_round(trainer) for row in rows) >= 10
        assert {"quality", "target_weights"} <= set(attachment_of(trainer).settings)
    with pytest.raises(ValueError, match="quality: row 0 has 0"):
        active(tmp_path / "zero", dataset=tiny.pool(text=True), options={"quality": [0.0] * 40})


@pytest.mark.parametrize(
    "constraints", [SelectionConstraints(token_budget=9.0), SelectionConstraints(stop_when=StopWhen(gain=0.1))]
)
def test_constraints_that_may_end_a_round_early_are_refused(tmp_path, constraints):
    with pytest.raises(ValueError, match="may end a round early"):
        active(tmp_path, options={"constraints": constraints})


def test_a_selection_does_not_continue_rounds(tmp_path, one_round):
    with pytest.raises(ValueError, match=r"kind 'rounds' \(here 'selection'\)"):
        attach(tiny.trainer(tmp_path), list(range(6))).train(resume_from_checkpoint=one_round)


def test_gain_variance_and_seconds_of_each_round_are_logged(tmp_path):
    logged_values = []

    class Listening(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):
            logged_values.append({name: value for name, value in logs.items() if name.startswith("itl/")})

    trainer = active(tmp_path)
    trainer.add_callback(Listening())
    trainer.train()
    lines = [line for line in trainer.state.log_history if "itl/round" in line]
    assert [line["itl/round"] for line in lines] == [0, 1, 2]
    assert [line["step"] for line in lines] == [0, 3, 6]
    assert [line for line in logged_values if line] == [
        {name: value for name, value in line.items() if name.startswith("itl/")} for line in lines
    ]
    first = tiny.select(tiny.pool(text=True), PER_ROUND)
    assert lines[0]["itl/gain"] == pytest.approx(first.gains.sum())
    assert lines[0]["itl/target_variance"] == pytest.approx(first.target_variance[-1].mean())
    assert all(line["itl/embedding_seconds"] >= 0 and line["itl/selection_seconds"] > 0 for line in lines)


def test_max_steps_and_workers(tmp_path):
    trainer = active(tmp_path, max_steps=4, dataloader_num_workers=2)
    trainer.train()
    assert trainer.state.global_step == 4
    assert trainer.rows == [*picks_of(trainer)[0], *picks_of(trainer)[1][:2]]


class EndsEpochEarly(TrainerCallback):
    """Ends each epoch after its second step."""

    def on_step_end(self, args, state, control, **kwargs):
        control.should_epoch_stop = state.global_step % 2 == 0


def test_an_epoch_that_was_cut_short_is_followed_by_the_next_round(tmp_path):
    trainer = active(tmp_path)
    trainer.add_callback(EndsEpochEarly())
    trainer.train()
    assert trainer.rows == [row for picks in picks_of(trainer) for row in picks[:4]]
    assert len(picks_of(trainer)) == 3


def test_evaluation_and_prediction_do_not_change(tmp_path):
    held_out = tiny.pool(6)
    plain = tiny.trainer(tmp_path, eval_dataset=held_out)
    trainer = active(tmp_path, eval_dataset=held_out, eval_strategy="epoch")
    assert trainer.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]
    assert np.array_equal(trainer.predict(held_out).predictions, plain.predict(held_out).predictions)
    trainer.train()
    assert sum("eval_loss" in line for line in trainer.state.log_history) == 3
    assert by_round(trainer) == [picks.tolist() for picks in picks_of(trainer)]


def test_a_second_call_of_train_starts_without_rounds(tmp_path):
    trainer = active(tmp_path, num_train_epochs=1)
    trainer.train()
    trainer.train()
    assert len(picks_of(trainer)) == 1


def test_a_pool_too_small_for_all_rounds_is_refused_before_training(tmp_path):
    words = "3 rounds .* of 6 picks need 18 rows, but the pool has 17 to pick from"
    with pytest.raises(ValueError, match=words):
        active(tmp_path, dataset=tiny.pool(17, text=True))
    with pytest.raises(ValueError, match="need 18 rows, but the pool has 16"):
        active(tmp_path, dataset=tiny.pool(18, text=True), options={"already_selected": [0, 1]})
    trainer = active(tmp_path, dataset=tiny.pool(17, text=True), max_steps=9)
    with pytest.raises(ValueError, match=words):
        trainer.train()
    assert not hasattr(trainer, "batches")


def test_a_pool_passed_separately_is_matched_by_the_id_column(tmp_path):
    prepared_rows = tiny.pool(itl_index=range(40)).shuffle(seed=0).filter(lambda row: row["itl_index"] not in (0, 1, 2))
    text = tiny.pool(text=True)
    trainer = active(tmp_path, dataset=prepared_rows, options={"pool": text})
    trainer.train()
    assert by_round(trainer) == [picks.tolist() for picks in picks_of(trainer)]
    assert not {0, 1, 2} & set(trainer.rows)


def test_rows_without_text_need_a_pool(tmp_path):
    with pytest.raises(ValueError, match="no text to embed any more: pass pool="):
        active(tmp_path, dataset=tiny.pool())
    with pytest.raises(ValueError, match="pool of 39 rows"):
        active(tmp_path, dataset=tiny.pool(), options={"pool": tiny.pool(39, text=True)})
    trainer = active(tmp_path, dataset=tiny.pool(), num_train_epochs=1, options={"pool": tiny.pool(text=True)})
    trainer.train()
    assert trainer.rows == tiny.select(tiny.pool(text=True), PER_ROUND).indices.tolist()


def test_the_rows_of_an_earlier_selection_can_be_the_pool(tmp_path):
    earlier = tiny.select(tiny.pool(text=True), 20)
    trainer = active(tmp_path, dataset=earlier.dataset, num_train_epochs=1)
    trainer.train()
    assert trainer.rows == [int(earlier.indices[row]) for row in picks_of(trainer)[0]]


def test_a_row_that_cannot_be_embedded_is_an_error_before_training(tmp_path):
    rows = tiny.pool(text=True)
    rows = rows.remove_columns("prompt").add_column("prompt", [*rows["prompt"][:39], " "])
    with pytest.raises(ValueError, match="row 39"):
        active(tmp_path, dataset=rows)


def test_a_warning_says_that_the_embedder_holds_another_model(tmp_path):
    def attached(embedder):
        trainer = tiny.trainer(tmp_path, dataset=tiny.pool(text=True))
        attach(trainer, Selector(embedder), targets=tiny.TARGETS, examples_per_round=PER_ROUND)

    with pytest.warns(UserWarning, match="holds another model object than the one in training") as warning_list:
        attached(tiny.embedder(tiny.model()))
    assert [one.filename for one in warning_list if "another model" in str(one.message)] == [__file__]
    with pytest.warns(UserWarning, match="holds no model that could be found"):
        attached(Lengths())


class Lengths(Embedder):
    dimension = 2

    def fingerprint(self):
        return {"embedder": "lengths"}

    def embed(self, rows, *, first_row=0, on_rows=None):
        return torch.tensor([[len(row["prompt"]), 1.0] for row in rows])


def test_a_model_made_when_training_begins_is_checked_then(tmp_path):
    trainer = tiny.recording()(model_init=tiny.model, args=tiny.arguments(tmp_path), train_dataset=tiny.pool(text=True))
    selector = Selector(tiny.embedder(trainer.model))
    tiny.without_warnings(attach, trainer, selector, targets=tiny.TARGETS, examples_per_round=PER_ROUND)
    with pytest.warns(UserWarning, match="another model object"):
        trainer.train()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"targets": None}, TypeError, "needs targets= and examples_per_round="),
        (
            {"targets": [{"question": "row3"}]},
            ValueError,
            "no format is known for the columns of the targets: question",
        ),
        ({"pool": tiny.pool()}, ValueError, "no format is known for the columns of the pool: input_ids, labels"),
        ({"examples_per_round": 0}, ValueError, "examples_per_round must be a whole number"),
        ({"candidates_per_round": 5}, ValueError, "less than examples_per_round=6"),
        ({"already_selected": [40]}, ValueError, "row 40 is not among the 40 rows"),
        ({"already_selected": np.arange(40) < 2}, ValueError, "already_selected is a boolean mask"),
        ({"order": "best"}, ValueError, "order must be one of"),
    ],
)
def test_bad_arguments(tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        active(tmp_path, options=options)


def test_the_sampler_has_no_picks_before_training(tmp_path):
    trainer = active(tmp_path)
    assert len(trainer.get_train_dataloader()) == 3
    with pytest.raises(RuntimeError, match="selected when training begins"):
        next(iter(trainer.get_train_dataloader()))
