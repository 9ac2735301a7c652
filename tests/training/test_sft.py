"""The same with TRL's SFTTrainer, which tokenizes, truncates, drops, shuffles and packs rows before it trains."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from datasets import Dataset

from itl_hf.training import attach
from tests.training import tiny

trl = pytest.importorskip("trl")

PICKS = [31, 4, 15, 9, 26, 5, 35, 8]


def sft(tmp_path, dataset, **changes):
    defaults = {"bf16": False, "gradient_checkpointing": False, "max_length": 8}
    return tiny.recording(trl.SFTTrainer)(
        model=tiny.model(),
        args=tiny.arguments(tmp_path, cls=trl.SFTConfig, **{**defaults, **changes}),
        train_dataset=dataset,
        processing_class=tiny.tokenizer(),
    )


def pool(num_rows=40, long=(), **columns):
    """Prompts and completions; the prompts of the rows `long` fill the context, so that SFTTrainer drops them."""
    prompts = [f"row{row}" + " the a of and" * (3 if row in long else 1) for row in range(num_rows)]
    return Dataset.from_dict({"prompt": prompts, "completion": [" to the"] * num_rows, **columns})


def selection(pool_size=40):
    return SimpleNamespace(indices=np.array(PICKS), pool_size=pool_size)


def test_trains_on_exactly_the_picks(tmp_path):
    trainer = tiny.quietly(attach, sft(tmp_path, pool(), num_train_epochs=2), selection())
    trainer.train()
    assert trainer.rows == PICKS * 2


def test_resumes_bit_equal(tmp_path):
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


def test_dropped_rows_are_noticed(tmp_path):
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
    tiny.quietly(attach, trainer, selection())
    trainer.train()
    assert trainer.rows == PICKS


def test_a_pick_that_was_dropped_is_named(tmp_path):
    trainer = sft(tmp_path, pool(long=(0, 26), itl_index=range(40)))
    with pytest.raises(ValueError, match=r"1 of the 8 picked rows.*: rows 26"):
        attach(trainer, selection())


def test_the_way_that_always_works(tmp_path):
    # What the errors say to do instead.
    trainer = sft(tmp_path, pool().select(PICKS), train_sampling_strategy="sequential")
    trainer.train()
    assert trainer.rows == PICKS


@pytest.mark.parametrize("name", ["GRPOTrainer", "RLOOTrainer"])
def test_trainers_that_repeat_prompts_are_refused(name):
    bare = object.__new__(getattr(trl, name))  # the check needs the class alone
    with pytest.raises(TypeError, match="brings a training order"):
        attach(bare, selection())
