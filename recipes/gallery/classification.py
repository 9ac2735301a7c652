"""A text classifier with `transformers.Trainer`, trained on the rows that teach most about your own prompts.

    python classification.py reviews.jsonl my_reviews.jsonl      # rows with `text` and `label`; rows with `text`

`attach` suits here: the trainer keeps its dataset, and the order may change with every epoch. Prefer
`train_dataset=selection.dataset` where the rows are tokenized for long: then only the picks are.
"""

from __future__ import annotations

import sys

from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

from itl_hf import Selector, SentenceEncoder, attach, load_rows


def main(
    pool_file: str,
    targets_file: str,
    model: str = "answerdotai/ModernBERT-base",
    encoder: str = "sentence-transformers/all-MiniLM-L6-v2",
    num_examples: int = 1_000,
    output_dir: str = "classifier",
) -> Trainer:
    """Selects by the sentence encoder's features, and trains the classifier."""
    pool, targets = load_rows(pool_file), load_rows(targets_file)
    labels = sorted(set(pool["label"]))
    selector = Selector(SentenceEncoder(encoder), columns={"text": "text"})
    selection = selector.select(pool, targets, num_examples, replay_share=0.1)

    tokenizer = AutoTokenizer.from_pretrained(model)
    rows = pool.map(lambda row: {**tokenizer(row["text"], truncation=True), "label": labels.index(row["label"])})
    classifier = AutoModelForSequenceClassification.from_pretrained(model, num_labels=len(labels))
    trainer = Trainer(
        classifier,
        args=TrainingArguments(output_dir, num_train_epochs=3, per_device_train_batch_size=16, report_to="none"),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    attach(trainer, selection, order="shuffled").train()
    trainer.save_model(output_dir)
    return trainer


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
