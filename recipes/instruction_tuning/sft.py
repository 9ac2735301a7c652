r"""Instruction tuning on selected rows: a TRL training script with a selection and one call of `attach` added.

    python -m recipes.instruction_tuning.sft --config recipes/instruction_tuning/config.yaml
    accelerate launch --config_file recipes/accelerate_configs/multi_gpu.yaml -m \
        recipes.instruction_tuning.sft --config recipes/instruction_tuning/config.yaml

Copied out of the repository, the script runs as `python sft.py --config config.yaml`. The same without a script of your
own: `itl-hf train --config recipes/instruction_tuning/config.yaml`. For a comparison with random picks, add
`--acquisition random --output_dir outputs/random`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from accelerate.utils import release_memory
from datasets import Dataset
from trl import ModelConfig, ScriptArguments, SFTConfig, SFTTrainer, TrlParser, get_peft_config

from itl_hf import Selection, SelectionArguments, attach, load_rows


def select(options: SelectionArguments, pool: Dataset, model: ModelConfig) -> Selection:
    """Picks the rows that are most informative about the targets for the model before training."""
    embedder = options.build_embedder(str(model.model_name_or_path))
    targets = load_rows(str(options.targets), options.targets_split)
    num_examples = int(options.num_examples or 0)
    selection = options.selector(embedder).select(pool, targets, num_examples, constraints=options.constraints())
    # `extend` needs the embedder. Without it, the embedder's model is freed before the model to train is loaded.
    return dataclasses.replace(selection, extend_fn=None)


def main(arguments: Sequence[str]) -> SFTTrainer:
    """Selects, trains and saves the adapter."""
    parser = TrlParser((SelectionArguments, ScriptArguments, SFTConfig, ModelConfig))
    options, script, training, model = parser.parse_args_and_config(list(arguments))
    if options.num_examples is None or options.targets is None:
        raise SystemExit("this recipe selects once: give --num_examples and --targets")
    options.check(training.packing)
    pool = load_rows(str(script.dataset_name), script.dataset_train_split)
    selection = select(options, pool, model)
    release_memory()
    # The rest is a TRL script as it is without a selection, apart from `attach`.
    training.model_init_kwargs = {"dtype": model.dtype}
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=pool,
        eval_dataset=None if options.eval_dataset_name is None else load_rows(options.eval_dataset_name),
        peft_config=get_peft_config(model),
    )
    attach(trainer, selection, order=options.order)
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model(training.output_dir)
    return trainer


if __name__ == "__main__":
    main(sys.argv[1:])
