"""Active rounds with a shortlist by another embedder: in each round the live model embeds the list alone."""

from __future__ import annotations

import pytest
from transformers import Trainer

from itl_hf import Selector, Shortlist, attach
from itl_hf.selection.shortlist import options
from tests.selection.shortlist.embedders import CountingEmbedder
from tests.training import tiny
from tests.training.test_rounds import PER_ROUND, by_round, counting_embedder


def attached(directory, shortlist, **changes):
    trainer = tiny.trainer(directory, dataset=tiny.pool(text=True), base=Trainer, num_train_epochs=3, **changes)
    trainer.embedder = counting_embedder(trainer)
    selector = Selector(trainer.embedder, shortlist=shortlist, store=directory / "store")
    return tiny.without_warnings(attach, trainer, selector, targets=tiny.TARGETS, examples_per_round=PER_ROUND)


def test_each_round_embeds_its_list_and_the_rows_that_were_trained_on(tmp_path, monkeypatch):
    monkeypatch.setattr(options, "FEWEST_EMBEDDED_ROWS", 1)
    cheap = CountingEmbedder(8)
    trainer = attached(tmp_path, Shortlist(10, cheap))
    trainer.train()
    assert len({row for picks in by_round(trainer) for row in picks}) == 3 * PER_ROUND
    rows_trained_on = PER_ROUND + 2 * PER_ROUND
    assert trainer.embedder.rows_read == 3 * (10 + len(tiny.TARGETS)) + rows_trained_on
    assert len(cheap.prompts) == 40 + len(tiny.TARGETS)  # once: the store keeps them


def test_a_run_is_not_resumed_with_another_shortlist(tmp_path):
    trainer = attached(tmp_path, 12, save_strategy="epoch")
    trainer.train()
    checkpoint = str(tmp_path / "checkpoint-3")
    other = attached(tmp_path, 20)
    with pytest.raises(ValueError, match="shortlist"):
        other.train(resume_from_checkpoint=checkpoint)
    same = attached(tmp_path, 12)
    same.train(resume_from_checkpoint=checkpoint)
    assert by_round(same) == by_round(trainer)[1:]
