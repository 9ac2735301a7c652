"""A retriever with sentence-transformers, trained on the pairs that teach most about the questions of your users.

    python retriever.py pairs.jsonl questions.txt      # rows with `anchor` and `positive`; one question a line

`attach` suits here: with `batch_sampler="no_duplicates"` the trainer makes the batches, of the picked pairs alone.
`train_dataset=selection.dataset` needs the columns that the loss reads, and no others:
`selection.dataset.select_columns(["anchor", "positive"])`.
"""

from __future__ import annotations

import sys

from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from sentence_transformers.losses import MultipleNegativesRankingLoss

from itl_hf import Selector, SentenceEncoder, attach, load_rows


def main(
    pool_file: str,
    targets_file: str,
    model: str = "sentence-transformers/all-MiniLM-L6-v2",
    num_examples: int = 5_000,
    output_dir: str = "retriever",
) -> SentenceTransformerTrainer:
    """Selects by the retriever's own features, and trains it."""
    pool = load_rows(pool_file).select_columns(["anchor", "positive"])
    columns = {"prompt": "anchor", "completion": "positive"}
    selector = Selector(SentenceEncoder(model, span="prompt"), columns=columns)
    selection = selector.select(pool, load_rows(targets_file)["text"][:], num_examples)

    retriever = SentenceTransformer(model)
    trainer = SentenceTransformerTrainer(
        retriever,
        args=SentenceTransformerTrainingArguments(
            output_dir,
            per_device_train_batch_size=64,
            batch_sampler="no_duplicates",
            report_to="none",
        ),
        train_dataset=pool,
        loss=MultipleNegativesRankingLoss(retriever),
    )
    attach(trainer, selection, order="shuffled").train()
    retriever.save_pretrained(output_dir)
    return trainer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
