"""`attach` with TRL's SFTTrainer, which tokenizes, truncates, drops, shuffles and packs rows before it trains."""

from __future__ import annotations

import difflib
import inspect
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from itl_hf import HiddenStates, Selection, Selector
from itl_hf.training import SelectionTrainerMixin, attach, picks_of
from tests.tiny_models import tiny_model, tiny_tokenizer
from tests.training import tiny

trl = pytest.importorskip("trl")
SCRIPT = Path(__file__).with_name("existing_script.py").read_text()

#: Older ones keep rows of which truncation leaves no completion.
drops_rows = pytest.mark.skipif(
    "Dropping fully" not in inspect.getsource(trl.SFTTrainer), reason="this version of TRL drops no rows"
)
PICKS = [31, 4, 15, 9, 26, 5, 35, 8]


def sft(tmp_path, dataset, base=trl.SFTTrainer, trainer_arguments=None, **changes):
    defaults = {"bf16": False, "gradient_checkpointing": False, "max_length": 8}
    return tiny.recording(base)(
        model=tiny.model(),
        args=tiny.arguments(tmp_path, cls=trl.SFTConfig, **{**defaults, **changes}),
        train_dataset=dataset,
        processing_class=tiny.tokenizer(),
        **(trainer_arguments or {}),
    )


def pool(num_rows=40, long=(), **columns):
    """Prompts and completions; the prompts of the rows `long` fill the context, so that SFTTrainer drops them."""
    prompts = [f"row{row}" + " the a of and" * (3 if row in long else 1) for row in range(num_rows)]
    return Dataset.from_dict({"prompt": prompts, "completion": [" to the"] * num_rows, **columns})


def selection(pool_size=40):
    return SimpleNamespace(indices=np.array(PICKS), pool_size=pool_size)


def test_trains_on_exactly_the_picks(tmp_path):
    trainer = tiny.without_warnings(attach, sft(tmp_path, pool(), num_train_epochs=2), selection())
    trainer.train()
    assert trainer.rows == PICKS * 2


def test_a_resumed_run_is_bit_equal(tmp_path):
    def fresh(name):
        trainer = sft(tmp_path / name, pool(), num_train_epochs=2, save_strategy="steps", save_steps=6)
        return attach(trainer, selection(), order="shuffled")

    whole, resumed = fresh("whole"), fresh("resumed")
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / "whole" / "checkpoint-6"))
    assert resumed.rows == whole.rows[12:]
    tiny.assert_same_weights(tiny.adapter(resumed), tiny.adapter(whole))


def test_packing_is_refused(tmp_path):
    # "wrapped": the other strategy needs an attention kernel that a CPU does not have.
    trainer = sft(tmp_path, pool(itl_index=range(40)), packing=True, packing_strategy="wrapped")
    with pytest.raises(ValueError, match=r"packing=True.*train_dataset=selection\.dataset"):
        attach(trainer, selection())


@drops_rows
def test_rows_dropped_by_the_trainer_are_an_error(tmp_path):
    trainer = sft(tmp_path, pool(long=(0, 1)))
    assert len(trainer.train_dataset) == 38
    with pytest.raises(ValueError, match=r"pool of 40 rows.*has 38.*itl_index"):
        attach(trainer, selection())


def test_shuffled_rows_are_refused(tmp_path):
    trainer = sft(tmp_path, pool(), shuffle_dataset=True)
    with pytest.raises(ValueError, match="shuffle_dataset=False"):
        attach(trainer, selection())


def test_dropped_and_shuffled_rows_are_found_through_the_id_column(tmp_path):
    trainer = sft(tmp_path, pool(long=(0, 1), itl_index=range(40)), shuffle_dataset=True)
    tiny.without_warnings(attach, trainer, selection())
    trainer.train()
    assert trainer.rows == PICKS


@drops_rows
def test_a_pick_that_was_dropped_is_named(tmp_path):
    trainer = sft(tmp_path, pool(long=(0, 26), itl_index=range(40)))
    with pytest.raises(ValueError, match=r"1 of the 8 picked rows.*: rows 26"):
        attach(trainer, selection())


@pytest.mark.skipif(not tiny.HAS_SAMPLING_STRATEGY, reason="this version of transformers has no such argument")
def test_training_on_the_picked_rows_without_attach(tmp_path):
    # What the errors advise instead of attach.
    trainer = sft(tmp_path, pool().select(PICKS), train_sampling_strategy="sequential")
    trainer.train()
    assert trainer.rows == PICKS


TARGETS = [{"prompt": "row3 the a"}, {"prompt": "row7 of of"}]


def active(tmp_path, dataset=None, options=None, **changes):
    trainer = sft(tmp_path, pool() if dataset is None else dataset, **{"num_train_epochs": 3, **changes})
    selector = Selector(tiny.embedder(trainer.model))
    return tiny.without_warnings(attach, trainer, selector, targets=TARGETS, examples_per_round=6, **(options or {}))


def test_active_rounds(tmp_path):
    trainer = active(tmp_path, logging_strategy="steps", logging_steps=2)
    trainer.train()
    assert trainer.rows == np.concatenate(picks_of(trainer)).tolist()
    assert len(set(trainer.rows)) == 18
    # TRL averages its metrics over the steps between two lines of the log: our line must not shorten that.
    lines = [line for line in trainer.state.log_history if "itl/round" in line]
    assert len(lines) == 3
    assert not any("mean_token_accuracy" in line for line in lines)


@pytest.mark.parametrize("checkpoint_step", [3, 4])
def test_resumed_active_rounds_are_bit_equal(tmp_path, checkpoint_step):
    def fresh():
        precision = {"bf16": True, "gradient_checkpointing": True}
        return active(
            tmp_path, save_strategy="steps", save_steps=checkpoint_step, options={"pool": pool()}, **precision
        )

    whole, resumed = fresh(), fresh()
    whole.train()
    resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{checkpoint_step}"))
    assert resumed.rows == whole.rows[2 * checkpoint_step :]
    tiny.assert_same_weights(tiny.adapter(resumed), tiny.adapter(whole))


@drops_rows
def test_rows_dropped_by_the_trainer_are_not_candidates(tmp_path):
    dataset = pool(long=(3, 7), itl_index=range(40))
    trainer = active(tmp_path, dataset, shuffle_dataset=True, options={"pool": dataset})
    trainer.train()
    assert trainer.rows == np.concatenate(picks_of(trainer)).tolist()
    assert not {3, 7} & set(trainer.rows)


class SelectionSFTTrainer(SelectionTrainerMixin, trl.SFTTrainer):
    pass


def test_the_mixin_finds_picks_after_rows_were_dropped_and_shuffled(tmp_path):
    trainer_arguments = {"selection": selection(), "selection_options": {"order": "shuffled", "seed": 4}}
    trainer = sft(tmp_path, pool(long=(0, 1)), SelectionSFTTrainer, trainer_arguments, shuffle_dataset=True)
    trainer.train()
    assert sorted(trainer.rows) == sorted(PICKS)
    assert trainer.rows != PICKS


@drops_rows
def test_the_mixin_selects_in_rounds(tmp_path):
    model = tiny.model()
    options = {"targets": TARGETS, "examples_per_round": 4}
    trainer = tiny.recording(SelectionSFTTrainer)(
        model=model,
        args=tiny.arguments(tmp_path, trl.SFTConfig, bf16=False, max_length=8, num_train_epochs=2),
        train_dataset=pool(long=(3, 7)),
        processing_class=tiny.tokenizer(),
        selection=Selector(tiny.embedder(model)),
        selection_options=options,
    )
    trainer.train()
    assert trainer.rows == np.concatenate(picks_of(trainer)).tolist()
    assert not {3, 7} & set(trainer.rows)


def test_the_mixin_without_a_selection_is_the_plain_trainer(tmp_path):
    sft(tmp_path, pool(8), SelectionSFTTrainer).train()
    with pytest.raises(TypeError, match="without a selection"):
        sft(tmp_path, pool(8), SelectionSFTTrainer, {"selection_options": {"order": "gain"}})


def test_another_pool_of_the_same_length_is_refused(tmp_path):
    selection_with_text = tiny.select(pool(), 6)
    # SFTTrainer appended the end token to each completion; that is no difference.
    tiny.without_warnings(attach, sft(tmp_path, pool()), selection_with_text)
    with pytest.raises(ValueError, match="another 'prompt' than the row that was picked"):
        attach(sft(tmp_path, pool().shuffle(seed=0)), selection_with_text)


def conversations(num_rows, kind):
    def turn(role, content):
        return [{"role": role, "content": content}]

    prompts = [turn("user", f"What is the sum of {row} and three?") for row in range(num_rows)]
    completions = [turn("assistant", f"The sum is {row + 3}.") for row in range(num_rows)]
    if kind == "prompt":
        return Dataset.from_dict({"prompt": prompts, "completion": completions})
    return Dataset.from_dict({"messages": [ask + answer for ask, answer in zip(prompts, completions, strict=True)]})


@pytest.mark.parametrize("kind", ["prompt", "messages"])
def test_chat_data_with_a_fresh_adapter(tmp_path, kind):
    rows, tokenizer = conversations(16, kind), tiny_tokenizer()
    changes = {"bf16": False, "max_length": 96, "num_train_epochs": 2, "per_device_train_batch_size": 3}
    trainer = trl.SFTTrainer(
        model=tiny_model(),
        args=tiny.arguments(tmp_path, trl.SFTConfig, **changes),
        train_dataset=rows,
        processing_class=tokenizer,
        peft_config=tiny.lora(),
    )
    recorder = trainer.data_collator = Recorder(trainer)
    selector = Selector(HiddenStates(trainer.model, tokenizer=tokenizer))
    targets = [{"prompt": "What is the sum of two and three?"}]
    tiny.without_warnings(attach, trainer, selector, targets=targets, examples_per_round=6).train()
    assert recorder.rows == np.concatenate(picks_of(trainer)).tolist()
    assert len(set(recorder.rows)) == 12
    has_masked_labels = [(labels == -100).any() for labels in recorder.labels]
    assert all(has_masked_labels) is (kind == "prompt")  # with prompts the loss is on the completions alone


class Recorder:
    """A collator that records which rows of the trainer's dataset it gets."""

    def __init__(self, trainer):
        self.collate, self.rows, self.labels = trainer.data_collator, [], []
        self.row_of_tokens = {tuple(ids): row for row, ids in enumerate(trainer.train_dataset["input_ids"])}
        assert len(self.row_of_tokens) == len(trainer.train_dataset)

    def __call__(self, features):
        self.rows += [self.row_of_tokens[tuple(one["input_ids"])] for one in features]
        self.labels += [np.array(one["labels"]) for one in features]
        return self.collate(features)


def test_an_existing_script_adds_two_lines(tmp_path, monkeypatch):
    rows = conversations(12, "prompt")
    tiny_model().save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    rows.to_json(tmp_path / "data.jsonl")
    embedder = HiddenStates(str(tmp_path / "model"))
    selection_with_text = Selector(embedder).select(rows, ["What is the sum of two and three?"], 4)
    selection_with_text.save(tmp_path / "selection")

    lines = {
        "from trl import": "from itl_hf import Selection, attach",
        "trainer.train()": f"attach(trainer, Selection.load({str(tmp_path / 'selection')!r}))",
    }
    script = SCRIPT
    for place, line in lines.items():
        script = script.replace(place, f"{line}\n{place}")
    difference = [line for line in difflib.ndiff(SCRIPT.splitlines(), script.splitlines()) if line[0] in "+-"]
    assert difference == [f"+ {line}" for line in lines.values()]

    trained_tokens = []
    step = trl.SFTTrainer.training_step

    def recording_step(trainer, model, inputs, *args, **kwargs):
        ids = inputs["input_ids"].tolist()
        trained_tokens.extend(tuple(token for token in row if token != tiny_tokenizer().pad_token_id) for row in ids)
        return step(trainer, model, inputs, *args, **kwargs)

    monkeypatch.setattr(trl.SFTTrainer, "training_step", recording_step)
    monkeypatch.setattr(sys, "argv", ["script", *(str(tmp_path / name) for name in ("model", "data.jsonl", "output"))])
    namespace = {"__name__": "__main__"}
    exec(compile(script, "existing_script.py", "exec"), namespace)
    tokenized_rows = namespace["trainer"].train_dataset["input_ids"]
    picked_indices = Selection.load(tmp_path / "selection").indices
    assert trained_tokens == [tuple(tokenized_rows[row]) for row in picked_indices.tolist()]
    assert json.loads((tmp_path / "data.jsonl").read_text().splitlines()[0])["prompt"]
