"""`attach` with a trainer of sentence-transformers, which takes a sampler of batches to train and to evaluate."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from datasets import Dataset
from transformers import set_seed

from itl_hf import Selector, SentenceEncoder
from itl_hf.training import SelectionSampler, attach
from tests.tiny_models import tiny_model, tiny_tokenizer

st = pytest.importorskip("sentence_transformers")
losses = pytest.importorskip("sentence_transformers.losses")

PICKS = [9, 2, 5, 0, 7]
LABELLED_PICKS = [20, 1, 2, 14, 7, 8, 3, 9]


@pytest.fixture
def encoder(tmp_path):
    tiny_model("bert").save_pretrained(tmp_path / "bert")
    tiny_tokenizer(chat_template=False).save_pretrained(tmp_path / "bert")
    return st.SentenceTransformer(str(tmp_path / "bert"), device="cpu")


def pairs(num_rows):
    return Dataset.from_dict(
        {"anchor": [f"row {row}" for row in range(num_rows)], "positive": [f"the {row}" for row in range(num_rows)]}
    )


def labelled(num_rows=24):
    texts = [f"row {row}" for row in range(num_rows)]
    return Dataset.from_dict({"text": texts, "label": [row % 6 for row in range(num_rows)]})


def repeated(num_rows=24):
    return Dataset.from_dict(
        {"anchor": [f"row {row % 4}" for row in range(num_rows)], "positive": [f"the {row}" for row in range(num_rows)]}
    )


class Recording:
    """A loss that records the texts of the first column, batch by batch."""

    @staticmethod
    def of(base, encoder):
        class Loss(base):
            def forward(self, sentence_features, labels):
                ids = sentence_features[0]["input_ids"]
                self.batches.append(encoder.tokenizer.batch_decode(ids, skip_special_tokens=True))
                return super().forward(sentence_features, labels)

        loss = Loss(encoder)
        loss.batches = []
        return loss


def trained_batches(folder, rows, loss_base, picks=None, trainer_class=None, options=None, **arguments):
    """Batches of three epochs, and the trainer's losses."""
    set_seed(0)
    encoder = st.SentenceTransformer(str(folder / "bert"), device="cpu")
    loss = Recording.of(loss_base, encoder)
    training = st.SentenceTransformerTrainingArguments(
        str(folder / "out"),
        **{"per_device_train_batch_size": 4, "num_train_epochs": 3, "logging_steps": 1, **arguments},
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = (trainer_class or st.SentenceTransformerTrainer)(encoder, training, train_dataset=rows, loss=loss)
    if picks is not None:
        attach(trainer, picks, **(options or {}))
    trainer.train()
    return loss.batches, [one["loss"] for one in trainer.state.log_history if "loss" in one]


def own_sampler(dataset, **options):
    """A sampler of the user's own: the rows in reverse."""
    from sentence_transformers.base.sampler import DefaultBatchSampler

    options.pop("valid_label_columns", None)
    return DefaultBatchSampler(range(len(dataset) - 1, -1, -1), **options)


class OwnTrainer(st.SentenceTransformerTrainer):
    """Makes its own batches."""

    def get_batch_sampler(self, dataset, batch_size, drop_last, valid_label_columns=None, generator=None, seed=0):
        return own_sampler(dataset, batch_size=batch_size, drop_last=drop_last, generator=generator, seed=seed)


@pytest.mark.parametrize(
    ("rows", "loss", "arguments", "trainer_class"),
    [
        (labelled, losses.BatchAllTripletLoss, {"batch_sampler": "group_by_label"}, None),
        (repeated, losses.MultipleNegativesRankingLoss, {"batch_sampler": "no_duplicates"}, None),
        (repeated, losses.MultipleNegativesRankingLoss, {"batch_sampler": own_sampler}, None),
        (repeated, losses.MultipleNegativesRankingLoss, {}, OwnTrainer),
    ],
    ids=["group_by_label", "no_duplicates", "a function", "a trainer's method"],
)
def test_a_sampler_of_batches_is_respected(tmp_path, encoder, rows, loss, arguments, trainer_class):
    options = {"trainer_class": trainer_class, **arguments}
    with pytest.warns(UserWarning, match="decides which picks share a batch"):
        attached = trained_batches(tmp_path, rows(), loss, LABELLED_PICKS, **options)
    alone = trained_batches(tmp_path, rows().select(LABELLED_PICKS), loss, **options)
    assert attached == alone
    assert len(attached[0]) >= 3
    texts = Counter(text for batch in attached[0] for text in batch)
    assert set(texts) <= set(rows().select(LABELLED_PICKS)[rows().column_names[0]])
    if arguments.get("batch_sampler") == "group_by_label":
        labels = [[int(text.split()[1]) % 6 for text in batch] for batch in attached[0]]
        assert all(min(Counter(batch).values()) >= 2 for batch in labels)
        assert max(attached[1]) > 0
    if arguments.get("batch_sampler") == "no_duplicates":
        assert all(len(set(batch)) == len(batch) for batch in attached[0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"order": "interleaved"}, "and so does order='interleaved'. Leave out order="),
        ({"remainder": "drop"}, "and so does remainder='drop'. Leave it out and set dataloader_drop_last=True"),
    ],
)
def test_options_that_contradict_a_sampler_of_batches_are_refused(tmp_path, encoder, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        trained_batches(
            tmp_path, labelled(), losses.BatchAllTripletLoss, [1, 7], batch_sampler="group_by_label", options=options
        )


def test_rounds_refuse_a_sampler_of_batches(tmp_path, encoder):
    arguments = st.SentenceTransformerTrainingArguments(
        str(tmp_path), batch_sampler="no_duplicates", use_cpu=True, report_to="none"
    )
    loss = losses.MultipleNegativesRankingLoss(encoder)
    trainer = st.SentenceTransformerTrainer(encoder, arguments, train_dataset=pairs(10), loss=loss)
    selector = Selector(SentenceEncoder(encoder))
    with pytest.raises(ValueError, match=r"no_duplicates' is built once for all epochs.*use batch_sampler="):
        attach(trainer, selector, targets=["row 3"], examples_per_round=2, pool=[f"row {i}" for i in range(10)])


def test_trains_on_the_picks_and_evaluates_on_all(tmp_path, encoder):
    batches = []

    class Loss(losses.MultipleNegativesRankingLoss):
        def forward(self, sentence_features, labels):
            ids = [features["input_ids"] for features in sentence_features]
            batches.append([encoder.tokenizer.decode(row, skip_special_tokens=True) for row in ids[0]])
            return super().forward(sentence_features, labels)

    arguments = st.SentenceTransformerTrainingArguments(
        str(tmp_path),
        per_device_train_batch_size=2,
        per_device_eval_batch_size=4,
        num_train_epochs=2,
        use_cpu=True,
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = st.SentenceTransformerTrainer(
        encoder, arguments, train_dataset=pairs(10), eval_dataset=pairs(8), loss=Loss(encoder)
    )
    attach(trainer, PICKS, order="shuffled", seed=3).train()
    expected_batches = []
    for epoch in range(2):
        sampler = SelectionSampler(PICKS, order="shuffled", seed=3)
        sampler.set_epoch(epoch)
        rows = [f"row {row}" for row in sampler]
        expected_batches += [rows[:2], rows[2:4], rows[4:]]
    assert [sorted(batch) for batch in batches] == [sorted(batch) for batch in expected_batches]
    batches.clear()
    trainer.evaluate()
    assert sorted(row for batch in batches for row in batch) == [f"row {row}" for row in range(8)]
