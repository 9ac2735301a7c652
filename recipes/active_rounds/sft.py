"""Active rounds: one epoch is one round, selected with the model as it is when the epoch begins.

    python -m recipes.active_rounds.sft --config recipes/active_rounds/config.yaml
    torchrun --nproc_per_node 8 -m recipes.active_rounds.sft --config recipes/active_rounds/config.yaml

The same without a script of your own: `itl-hf train --config recipes/active_rounds/config.yaml`. Logs `itl/gain`,
`itl/target_variance`, `itl/embedding_seconds` and `itl/selection_seconds` beside the trainer's own figures.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trl import SFTTrainer, get_peft_config

from itl_hf import attach
from itl_hf.cli.load_rows import load_rows
from itl_hf.cli.train_arguments import parse
from recipes.offline_files import ensure


def main(arguments: Sequence[str]) -> SFTTrainer:
    """Trains and saves the adapter."""
    picking, script, training, model, _ = parse(list(arguments))
    if picking.examples_per_round is None:
        raise SystemExit("this recipe picks before each epoch: give --examples_per_round")
    picking.check(training.packing)
    ensure(model.model_name_or_path, script.dataset_name, picking.targets, picking.eval_dataset_name)
    pool = load_rows(str(script.dataset_name), script.dataset_train_split)
    training.model_init_kwargs = {"dtype": model.dtype}
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=pool,
        eval_dataset=None if picking.eval_dataset_name is None else load_rows(picking.eval_dataset_name),
        peft_config=get_peft_config(model),
    )
    # The embedder reads the trainer's own model: every round sees what was learned in the rounds before.
    embedder = picking.build_embedder(trainer.model, tokenizer=trainer.processing_class)
    attach(
        trainer,
        picking.selector(embedder),
        targets=load_rows(str(picking.targets), picking.targets_split),
        examples_per_round=picking.examples_per_round,
        candidates_per_round=picking.candidates_per_round,
        pool=pool,
        order=picking.order,
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model(training.output_dir)
    return trainer


if __name__ == "__main__":
    main(sys.argv[1:])
