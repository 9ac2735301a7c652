"""Active rounds: before every epoch, the next rows are selected with the model as it is at that moment.

    python -m recipes.active_rounds.sft --config recipes/active_rounds/config.yaml
    torchrun --nproc_per_node 8 -m recipes.active_rounds.sft --config recipes/active_rounds/config.yaml

Copied out of the repository, the script runs as `python sft.py --config config.yaml`. The same without a script of your
own: `itl-hf train --config recipes/active_rounds/config.yaml`. It logs `itl/gain`, `itl/target_variance`,
`itl/embedding_seconds` and `itl/selection_seconds` in addition to the values that the trainer logs.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_peft_config

from itl_hf import SelectionArguments, attach, load_rows


def main(arguments: Sequence[str]) -> SFTTrainer:
    """Trains, with a selection before each epoch, and saves the adapter."""
    parser = TrlParser((SelectionArguments, ScriptArguments, SFTConfig, ModelConfig))
    options, script, training, model = parser.parse_args_and_config(list(arguments))
    if options.examples_per_round is None:
        raise SystemExit("this recipe selects before each epoch: give --examples_per_round")
    options.check(training.packing)
    pool = load_rows(str(script.dataset_name), script.dataset_train_split)
    training.model_init_kwargs = {"dtype": model.dtype}
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=pool,
        eval_dataset=None if options.eval_dataset_name is None else load_rows(options.eval_dataset_name),
        peft_config=get_peft_config(model),
    )
    # The embedder uses the trainer's own model, so that each round uses what was learned in the rounds before.
    embedder = options.build_embedder(trainer.model, tokenizer=trainer.processing_class)
    attach(
        trainer,
        options.selector(embedder),
        targets=load_rows(str(options.targets), options.targets_split),
        examples_per_round=options.examples_per_round,
        candidates_per_round=options.candidates_per_round,
        pool=pool,
        constraints=options.constraints(),
        order=options.order,
    )
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model(training.output_dir)
    return trainer


if __name__ == "__main__":
    main(sys.argv[1:])
