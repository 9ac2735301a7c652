from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import Trainer

from itl_hf.training import SelectionSampler, attach, picks_of
from itl_hf.training.attachment import SelectionCallback
from itl_hf.training.resume import STATE_NAME
from itl_hf.training.sampler import rows_digest
from tests.training import tiny

PICKS = [31, 4, 15, 9, 26, 5, 35, 8]


def selection(picks=PICKS, pool_size=40):
    return SimpleNamespace(indices=np.array(picks), pool_size=pool_size)


def shuffled(seed, epoch, picks=PICKS):
    sampler = SelectionSampler(picks, order="shuffled", seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def test_trains_on_exactly_the_picks_best_first(tmp_path):
    trainer = tiny.trainer(tmp_path, num_train_epochs=2)
    before = tiny.adapter(trainer)
    assert tiny.without_warnings(attach, trainer, selection()) is trainer
    result = trainer.train()
    assert trainer.rows == PICKS * 2
    assert trainer.state.global_step == 8
    assert any(not torch.equal(before[name], weight) for name, weight in tiny.adapter(trainer).items())
    assert len(trainer.train_dataset) == 40
    # The pool has five times as many rows as were trained on: rates must count the rows trained on.
    num_rows_trained = result.metrics["train_samples_per_second"] * result.metrics["train_runtime"]
    assert num_rows_trained == pytest.approx(16, rel=0.1)


def test_shuffled_takes_the_same_picks_in_another_order_each_epoch(tmp_path):
    trainer = attach(tiny.trainer(tmp_path, num_train_epochs=2), selection(), order="shuffled")
    trainer.train()
    assert trainer.rows == shuffled(1, 0) + shuffled(1, 1)  # arguments' seed is 1
    assert trainer.rows[:8] != trainer.rows[8:]


def test_the_picked_rows_themselves_may_be_the_training_dataset(tmp_path):
    picked_rows = tiny.pool().select(PICKS).add_column("pool_index", PICKS)
    trainer = attach(tiny.trainer(tmp_path / "a", dataset=picked_rows), selection(), order="shuffled")
    trainer.train()
    assert trainer.rows == shuffled(1, 0)
    moved_trainer = attach(tiny.trainer(tmp_path / "b", dataset=picked_rows.shuffle(seed=1)), selection())
    moved_trainer.train()
    assert moved_trainer.rows == PICKS
    with pytest.raises(ValueError, match="1 of the 8 picked rows are not in column 'pool_index'"):
        attach(tiny.trainer(tmp_path / "c", dataset=picked_rows.select(range(7))), selection())


@pytest.mark.parametrize(("changes", "seed"), [({"data_seed": 7}, 7), ({}, 1)])
def test_the_seed_defaults_to_that_of_the_trainer(tmp_path, changes, seed):
    trainer = tiny.trainer(tmp_path, **changes)
    attach(trainer, PICKS, order="shuffled")
    assert list(trainer._get_train_sampler()) == shuffled(seed, 0)
    attach(trainer, PICKS, order="shuffled", seed=3)
    assert list(trainer._get_train_sampler()) == shuffled(3, 0)


def test_repeated_picks_are_trained_on_as_often_as_picked(tmp_path):
    trainer = attach(tiny.trainer(tmp_path), selection([5, 5, 2, 5]))
    trainer.train()
    assert trainer.rows == [5, 5, 2, 5]


def test_gradient_accumulation_and_max_steps(tmp_path):
    trainer = attach(tiny.trainer(tmp_path, gradient_accumulation_steps=3, max_steps=3), selection())
    trainer.train()
    # Four batches an epoch in steps of three and one; the third step takes three batches of the next epoch.
    assert trainer.state.global_step == 3
    assert trainer.rows == PICKS + PICKS[:6]


def test_workers_see_the_same_order(tmp_path):
    trainer = tiny.trainer(tmp_path, num_train_epochs=2, dataloader_num_workers=2)
    attach(trainer, selection(), order="shuffled").train()
    assert trainer.rows == shuffled(1, 0) + shuffled(1, 1)


@pytest.mark.parametrize("checkpoint_step", [2, 4, 5])
def test_a_run_resumed_between_or_within_epochs_equals_an_uninterrupted_one(tmp_path, checkpoint_step):
    def fresh(name):
        trainer = tiny.trainer(tmp_path / name, num_train_epochs=3, save_strategy="steps", save_steps=checkpoint_step)
        return attach(trainer, selection(), order="shuffled")

    whole, resumed = fresh("whole"), fresh("resumed")
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / f"checkpoint-{checkpoint_step}"))
    assert resumed.rows == whole.rows[2 * checkpoint_step :]
    tiny.assert_same_weights(tiny.adapter(resumed), tiny.adapter(whole))


def test_resuming_under_accumulation(tmp_path):
    def fresh(name):
        trainer = tiny.trainer(
            tmp_path / name, num_train_epochs=3, gradient_accumulation_steps=3, save_strategy="steps", save_steps=3
        )
        return attach(trainer, selection(), order="shuffled")

    whole, resumed = fresh("whole"), fresh("resumed")
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-3"))
    assert resumed.rows == whole.rows[8 + 6 :]
    tiny.assert_same_weights(tiny.adapter(resumed), tiny.adapter(whole))


def test_evaluation_and_prediction_do_not_change(tmp_path):
    held_out = tiny.pool(6)
    plain = tiny.trainer(tmp_path / "plain", eval_dataset=held_out)
    attached = attach(tiny.trainer(tmp_path / "attached", eval_dataset=held_out), selection())
    assert attached.evaluate()["eval_loss"] == plain.evaluate()["eval_loss"]
    left, right = attached.predict(held_out), plain.predict(held_out)
    assert np.array_equal(left.label_ids, right.label_ids)
    assert np.array_equal(left.predictions, right.predictions)
    assert attached.num_examples(attached.get_eval_dataloader()) == 6
    attached.train()
    assert attached.rows == PICKS


def test_attaching_again_replaces_the_first(tmp_path):
    trainer = attach(tiny.trainer(tmp_path), selection(), order="shuffled")
    attach(trainer, selection([1, 2]))
    trainer.train()
    assert trainer.rows == [1, 2]
    assert sum(isinstance(one, SelectionCallback) for one in trainer.callback_handler.callbacks) == 1


def test_attaches_to_any_map_style_dataset(tmp_path):
    rows = [{key: row[key] for key in ("input_ids", "labels")} for row in tiny.pool(40)]
    trainer = attach(tiny.trainer(tmp_path, dataset=rows), selection())
    trainer.train()
    assert trainer.rows == PICKS


def test_picks_are_looked_up_in_the_id_column_of_moved_rows(tmp_path):
    moved_rows = tiny.pool(itl_index=range(40)).shuffle(seed=0).filter(lambda row: row["itl_index"] not in (0, 1))
    assert moved_rows["itl_index"][31] != 31
    trainer = tiny.without_warnings(attach, tiny.trainer(tmp_path, dataset=moved_rows), selection())
    trainer.train()
    assert trainer.rows == PICKS


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ([*range(100, 131), *range(31, 40)], "4, 5, 8, 9, 15, 26"),
        ([*range(39), 8], "must not repeat a number; it does: rows 8"),
        ([*range(39), None], "whole numbers"),
        ([f"{row}" for row in range(40)], "whole numbers"),
    ],
)
def test_a_wrong_id_column_is_an_error(tmp_path, ids, words):
    trainer = tiny.trainer(tmp_path, dataset=tiny.pool(itl_index=ids))
    with pytest.raises(ValueError, match=words):
        attach(trainer, selection())


def test_another_dataset_than_the_pool_is_refused(tmp_path):
    trainer = tiny.trainer(tmp_path, dataset=tiny.pool(39))
    with pytest.raises(ValueError, match=r"pool of 40 rows.*has 39") as error_info:
        attach(trainer, selection())
    assert "train_dataset=selection.dataset" in str(error_info.value)
    assert "itl_index" in str(error_info.value)


def test_bare_row_numbers_are_checked_against_the_dataset(tmp_path):
    trainer = tiny.trainer(tmp_path, dataset=tiny.pool(36))
    attach(trainer, PICKS)
    with pytest.raises(ValueError, match="has 36 rows; picked but not in it: rows 36, 50"):
        attach(trainer, [*PICKS, 50, 36, 36])


def test_a_refused_attachment_leaves_the_trainer_as_it_was(tmp_path):
    trainer = attach(tiny.trainer(tmp_path), selection([3, 1]))
    with pytest.raises(ValueError):
        attach(trainer, selection([3, 99], pool_size=100))
    trainer.train()
    assert trainer.rows == [3, 1]


def test_a_missing_training_dataset_is_refused(tmp_path):
    trainer = Trainer(model=tiny.model(), args=tiny.arguments(tmp_path))
    with pytest.raises(ValueError, match="no train_dataset"):
        attach(trainer, selection())


@pytest.mark.parametrize("streaming", [tiny.pool().to_iterable_dataset, lambda: Stream()], ids=["datasets", "torch"])
def test_streams_are_refused(tmp_path, streaming):
    trainer = Trainer(model=tiny.model(), args=tiny.arguments(tmp_path, max_steps=1), train_dataset=streaming())
    with pytest.raises(ValueError, match=r"train_dataset=selection\.dataset"):
        attach(trainer, selection())


class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        yield from tiny.pool()


def test_a_training_dataset_changed_after_attaching_is_an_error(tmp_path):
    trainer = attach(tiny.trainer(tmp_path), selection())
    trainer.train_dataset = tiny.pool(41)
    with pytest.raises(ValueError, match=r"had 40 rows.*now has 41"):
        trainer.train()


def test_trainers_with_a_training_order_of_their_own_are_refused(tmp_path):
    class Grouped(Trainer):
        def _get_train_sampler(self, dataset=None):
            return super()._get_train_sampler(dataset)

    with pytest.raises(TypeError, match="has a training order of its own"):
        attach(tiny.trainer(tmp_path, base=Grouped), selection())
    with pytest.raises(TypeError, match="SelectionSampler"):
        attach(object(), selection())


def test_a_trainer_that_does_not_use_the_training_sampler_is_an_error(tmp_path):
    class Own(Trainer):
        def get_train_dataloader(self):
            return torch.utils.data.DataLoader(self.train_dataset, collate_fn=self.data_collator)

    trainer = attach(tiny.trainer(tmp_path, base=Own), selection())
    with pytest.raises(RuntimeError, match=r"train_dataset=selection\.dataset"):
        trainer.train()


@pytest.mark.skipif(not tiny.HAS_SAMPLING_STRATEGY, reason="this version of transformers has no such argument")
@pytest.mark.parametrize("strategy", ["sequential", "group_by_length", "batch_rebalance"])
def test_a_sampling_strategy_is_replaced_with_a_warning(tmp_path, strategy):
    trainer = tiny.trainer(tmp_path, train_sampling_strategy=strategy)
    with pytest.warns(UserWarning, match=strategy):
        attach(trainer, selection())
    trainer.train()
    assert trainer.rows == PICKS


def test_a_warning_says_how_many_picks_are_dropped(tmp_path):
    trainer = tiny.trainer(tmp_path, dataloader_drop_last=True, per_device_train_batch_size=3)
    with pytest.warns(UserWarning, match="last 2 of them are left out"):
        attach(trainer, selection())
    trainer.train()
    assert trainer.rows == PICKS[:6]


def test_a_smaller_last_batch_on_one_process_gives_no_warning(tmp_path):
    trainer = tiny.trainer(tmp_path, per_device_train_batch_size=3)
    tiny.without_warnings(attach, trainer, selection())
    trainer.train()
    assert trainer.rows == PICKS


def test_picks_of_returns_the_attached_picks(tmp_path):
    trainer = tiny.trainer(tmp_path)
    with pytest.raises(ValueError, match="Nothing is attached"):
        picks_of(trainer)
    attach(trainer, selection())
    assert [picks.tolist() for picks in picks_of(trainer)] == [PICKS]


def test_a_remainder_can_be_dropped(tmp_path):
    trainer = tiny.trainer(tmp_path, per_device_train_batch_size=3, num_train_epochs=2)
    tiny.without_warnings(attach, trainer, selection(), remainder="drop")
    trainer.train()
    assert trainer.rows == PICKS[:6] * 2
    with pytest.raises(ValueError, match="'repeat' or 'drop'"):
        attach(trainer, selection(), remainder="keep")
    with pytest.raises(ValueError, match="8 picks, but a step takes 9"):
        attach(tiny.trainer(tmp_path, per_device_train_batch_size=9), selection(), remainder="drop")


def test_interleaved_over_the_targets_of_a_real_selection(tmp_path):
    real_selection = tiny.select(tiny.pool(text=True), num_examples=8)
    trainer = attach(tiny.trainer(tmp_path, dataset=tiny.pool(text=True)), real_selection, order="interleaved")
    trainer.train()
    nearest = dict(zip(real_selection.indices.tolist(), real_selection.dataset["itl_nearest_target"], strict=True))
    assert sorted(trainer.rows) == sorted(real_selection.indices.tolist())
    assert trainer.rows != real_selection.indices.tolist()
    turns = [nearest[row] for row in trainer.rows]
    num_turns = len(set(turns))
    assert num_turns > 1
    assert len(set(turns[:num_turns])) == num_turns  # one pick of each target comes before the second of any
    with pytest.raises(ValueError, match="bare row numbers do not have"):
        attach(trainer, PICKS, order="interleaved")


def test_a_pool_of_the_same_length_with_other_text_is_refused(tmp_path):
    real_selection = tiny.select(tiny.pool(text=True), num_examples=6)
    other = tiny.pool(text=True).shuffle(seed=1)
    with pytest.raises(ValueError, match=r"Row \d+ of the trainer's train_dataset has another 'prompt'") as error_info:
        attach(tiny.trainer(tmp_path, dataset=other), real_selection)
    assert "selection.indices" in str(error_info.value)
    attach(tiny.trainer(tmp_path, dataset=other), real_selection.indices)  # what the error advises


def test_ids_of_the_selection_are_looked_up_in_a_larger_dataset(tmp_path):
    # The pool is a part of a larger dataset: its id column has other numbers than its row numbers.
    real_selection = tiny.select(tiny.pool(text=True, itl_index=range(40)).select(range(10, 30)), num_examples=4)
    trainer = attach(tiny.trainer(tmp_path, dataset=tiny.pool(text=True, itl_index=range(40))), real_selection)
    trainer.train()
    assert trainer.rows == [10 + row for row in real_selection.indices.tolist()]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    directory = tmp_path_factory.mktemp("attached")
    attach(tiny.trainer(directory, save_strategy="steps", save_steps=2, max_steps=2), selection()).train()
    return directory / "checkpoint-2"


def test_the_checkpoint_stores_the_settings_of_the_selection(checkpoint):
    state = json.loads((checkpoint / "trainer_state.json").read_text())
    saved_state = state["stateful_callbacks"][STATE_NAME]["selection"]
    assert (saved_state["num_picks"], saved_state["order"], saved_state["seed"]) == (8, "gain", 1)
    assert saved_state["picks"] == rows_digest(np.array(PICKS))


@pytest.mark.parametrize(
    ("picks", "options", "words"),
    [
        (PICKS[::-1], {}, "picks '"),
        (PICKS, {"order": "shuffled"}, r"order 'gain' \(here 'shuffled'\)"),
        (PICKS, {"seed": 2}, r"seed 1 \(here 2\)"),
        (PICKS[:-2], {}, r"num_picks 8 \(here 6\)"),
    ],
    ids=["picks", "order", "seed", "number"],
)
def test_resuming_with_another_selection_is_refused(tmp_path, checkpoint, picks, options, words):
    resumed = attach(tiny.trainer(tmp_path), selection(picks), **options)
    with pytest.raises(ValueError, match=f"another selection than the one attached now: .*{words}"):
        resumed.train(resume_from_checkpoint=str(checkpoint))


def test_resuming_a_run_without_a_selection_is_refused(tmp_path):
    tiny.trainer(tmp_path, dataset=tiny.pool(8), save_strategy="steps", save_steps=2).train()
    with pytest.raises(ValueError, match="saved without an attached selection"):
        attach(tiny.trainer(tmp_path), selection()).train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))


def test_a_callback_rebuilt_from_the_checkpoint_has_the_same_attachment(tmp_path):
    def fresh():
        restore_callbacks = {"restore_callback_states_from_checkpoint": True}
        trainer = tiny.trainer(tmp_path, num_train_epochs=3, save_strategy="steps", save_steps=5, **restore_callbacks)
        return attach(trainer, selection(), order="shuffled")

    whole, resumed = fresh(), fresh()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-5"))
    assert resumed.rows == whole.rows[10:]


def test_arguments_of_rounds_need_a_selector(tmp_path):
    with pytest.raises(TypeError, match="targets, examples_per_round belong to active rounds"):
        attach(tiny.trainer(tmp_path), selection(), targets=["row1"], examples_per_round=2)


def test_a_dictionary_of_datasets_is_refused(tmp_path):
    trainer = tiny.trainer(tmp_path)
    trainer.train_dataset = {"one": tiny.pool(20), "two": tiny.pool(20)}
    with pytest.raises(ValueError, match="concatenate_datasets"):
        attach(trainer, selection())
