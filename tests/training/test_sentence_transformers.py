"""`attach` with a trainer of sentence-transformers, which takes a sampler of batches to train and to evaluate."""

from __future__ import annotations

import pytest
from datasets import Dataset

from itl_hf.training import SelectionSampler, attach
from tests.tiny_models import tiny_model, tiny_tokenizer

st = pytest.importorskip("sentence_transformers")
losses = pytest.importorskip("sentence_transformers.losses")

PICKS = [9, 2, 5, 0, 7]


@pytest.fixture
def encoder(tmp_path):
    tiny_model("bert").save_pretrained(tmp_path / "bert")
    tiny_tokenizer(chat_template=False).save_pretrained(tmp_path / "bert")
    return st.SentenceTransformer(str(tmp_path / "bert"), device="cpu")


def pairs(num_rows):
    return Dataset.from_dict(
        {"anchor": [f"row {row}" for row in range(num_rows)], "positive": [f"the {row}" for row in range(num_rows)]}
    )


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
