r"""Instruction tuning on selected rows: a TRL script, a selection, and one line that joins them.

    python -m recipes.instruction_tuning.sft --config recipes/instruction_tuning/config.yaml
    accelerate launch --config_file recipes/accelerate_configs/multi_gpu.yaml -m \
        recipes.instruction_tuning.sft --config recipes/instruction_tuning/config.yaml

The same without a script of your own: `itl-hf train --config recipes/instruction_tuning/config.yaml`. For a comparison
add `--acquisition random --output_dir outputs/random`.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence

from accelerate.utils import release_memory
from datasets import Dataset
from trl import ModelConfig, SFTTrainer, get_peft_config

from itl_hf import Selection, attach
from itl_hf.cli.load_rows import load_rows
from itl_hf.cli.train_arguments import SelectionArguments, parse
from recipes.offline_files import ensure


def pick(picking: SelectionArguments, pool: Dataset, model: ModelConfig) -> Selection:
    """The rows that teach the untrained model most about the targets."""
    embedder = picking.build_embedder(str(model.model_name_or_path))
    targets = load_rows(str(picking.targets), picking.targets_split)
    selection = picking.selector(embedder).select(pool, targets, int(picking.num_examples or 0))
    return dataclasses.replace(selection, extend_fn=None)  # lets go of the embedder: no second model during training


def main(arguments: Sequence[str]) -> SFTTrainer:
    """Picks, trains and saves the adapter."""
    picking, script, training, model, _ = parse(list(arguments))
    if picking.num_examples is None or picking.targets is None:
        raise SystemExit("this recipe picks once: give --num_examples and --targets")
    picking.check(training.packing)
    ensure(model.model_name_or_path, script.dataset_name, picking.targets, picking.eval_dataset_name)
    pool = load_rows(str(script.dataset_name), script.dataset_train_split)
    selection = pick(picking, pool, model)
    release_memory()
    # From here on a TRL script as it would be without a selection, but for `attach`.
    training.model_init_kwargs = {"dtype": model.dtype}
    trainer = SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=pool,
        eval_dataset=None if picking.eval_dataset_name is None else load_rows(picking.eval_dataset_name),
        peft_config=get_peft_config(model),
    )
    attach(trainer, selection, order=picking.order)
    trainer.train(resume_from_checkpoint=training.resume_from_checkpoint)
    trainer.save_model(training.output_dir)
    return trainer


if __name__ == "__main__":
    main(sys.argv[1:])
