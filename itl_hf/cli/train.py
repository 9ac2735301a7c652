"""`itl-hf train`: selects, then trains TRL's SFTTrainer on the picks; or selects again before every epoch.

It takes TRL's arguments and those of `SelectionArguments`, from flags and a YAML file: a config that trains with
`trl sft` needs `targets` and `num_examples` added and nothing changed. Streamed datasets are not supported, because
they have no row numbers.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from itl_hf.cli import help_groups
from itl_hf.cli.group import call_on_each
from itl_hf.cli.help_groups import field_records, write_groups
from itl_hf.cli.output import Outcome, output_of
from itl_hf.cli.sft_trainer import trainer_in_rounds, trainer_on_picks
from itl_hf.cli.train_arguments import SelectionArguments, parse
from itl_hf.cli.train_data import TrainingData
from itl_hf.cli.train_selection import build_embedder, load_or_select
from itl_hf.cli.training_folder import check_training_folder, checkpoint_to_resume, training_folder

if TYPE_CHECKING:
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, SFTTrainer

_NO_DATA = "--dataset_name is missing: the rows to pick from (itl-hf train --help shows examples)"
#: `train` parses its arguments itself, so typer must pass on all of them unchanged.
SHARED_RECORDS = [
    ("--config <path>", "YAML file with options as lines `name: value`; flags override it."),
    ("--dry_run", "Estimate time and memory of embedding and picking; nothing is trained."),
    ("--json", "Print one JSON object."),
    ("--quiet", "No progress bars and no messages of libraries."),
    ("--verbose", "Print steps and tracebacks."),
    ("--help_all", "List TRL's options, too."),
]
CONTEXT = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}


class TrainCommand(help_groups.Command):
    """`train`, which declares no options to typer: ours are those of `SelectionArguments`."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes our options; TRL's are several hundred, and take seconds to import."""
        records = field_records(SelectionArguments)
        records.setdefault("Output", []).extend(SHARED_RECORDS)
        write_groups(formatter, records)


def train(context: typer.Context) -> None:
    """Pick examples, then fine-tune on them with TRL's SFTTrainer.

    Takes TRL's options, such as --model_name_or_path, --dataset_name and --output_dir, and the options below, as flags
    or in a YAML file (--config); flags override it. Rows are picked once (--num_examples), before each epoch
    (--examples_per_round), or were picked before (--selection). `itl-hf train --help_all` lists TRL's options, too.
    """
    ours = {f"--{name}": name for name in ("dry_run", "json", "quiet", "verbose")}
    flags = {name: word in context.args for word, name in ours.items()}
    words = ["--help" if word == "--help_all" else word for word in context.args if word not in ours]
    dry_run = flags.pop("dry_run")
    with output_of("train", **flags) as say:
        if not words:  # TRL's classes would complain about this machine first
            raise ValueError(_NO_DATA)
        arguments = parse(words)
        say(_estimate(*arguments) if dry_run else _outcome(run(*arguments)))


def _outcome(trainer: SFTTrainer) -> Outcome | None:
    if not trainer.accelerator.is_main_process:
        return None
    facts = {"output_dir": str(trainer.args.output_dir), "steps": trainer.state.global_step}
    losses = [line["train_loss"] for line in trainer.state.log_history if "train_loss" in line]
    return Outcome(f"saved to {trainer.args.output_dir}", {**facts, "train_loss": losses[-1] if losses else None})


def _estimate(
    picking: SelectionArguments,
    script: ScriptArguments,
    training: SFTConfig,
    model: ModelConfig,
    mixture: DatasetMixtureConfig | None = None,
) -> Outcome:
    """Estimates embedding and picking once; training is not estimated."""
    from itl_hf.cli.estimates import selection_outcome
    from itl_hf.selection.estimate import estimate_selection

    began, data = time.monotonic(), TrainingData(picking, script, mixture)
    _check(picking, training, model, data)
    if picking.num_examples is None:
        raise ValueError("--dry_run estimates picking once: give --num_examples")
    selector = picking.selector(build_embedder(picking, training, model))
    pool, targets, startup = data.pool(), data.targets(), time.monotonic() - began
    return selection_outcome(estimate_selection(selector, pool, targets, picking.num_examples), startup)


def run(
    picking: SelectionArguments,
    script: ScriptArguments,
    training: SFTConfig,
    model: ModelConfig,
    mixture: DatasetMixtureConfig | None = None,
) -> SFTTrainer:
    """Selects rows, trains on them, and saves the model.

    Args:
        picking (`SelectionArguments`):
            What to train on.
        script (`trl.ScriptArguments`):
            The pool.
        training (`trl.SFTConfig`):
            How to train.
        model (`trl.ModelConfig`):
            What to train.
        mixture (`trl.DatasetMixtureConfig`, *optional*):
            A pool of several datasets instead.

    Returns:
        `SFTTrainer`: The trainer after training.

    Raises:
        `ValueError`: If arguments are missing or contradict each other; raised before any work is done.
    """
    data = TrainingData(picking, script, mixture)
    call_on_each(lambda: _check(picking, training, model, data))
    is_first = training.process_index == 0
    with training_folder(Path(str(training.output_dir))) if is_first else contextlib.nullcontext():
        return _run(picking, data, training, model, script.dataset_name)


def _run(
    picking: SelectionArguments, data: TrainingData, training: SFTConfig, model: ModelConfig, dataset_name: str | None
) -> SFTTrainer:
    """Does what `run` says, after the checks."""
    from itl_hf.failure_detection import pause_watch
    from itl_hf.text import training_rows
    from itl_hf.training.trainer_checks import check_sharding

    held_out = None if training.eval_strategy == "no" else call_on_each(data.held_out)
    if held_out is not None:
        mapping = picking.mapping
        fits = mapping is not None and mapping.fits(held_out.column_names)
        held_out = training_rows(held_out, mapping if fits else None, "rows to evaluate on")
    if picking.examples_per_round is None:
        selection = load_or_select(picking, data, training, model)
        trainer = trainer_on_picks(picking, selection, held_out, training, model)
    else:
        trainer = trainer_in_rounds(picking, data, held_out, training, model)
    check_sharding(trainer)
    with pause_watch():  # a process may be silent for minutes, as while it writes a checkpoint
        trainer.train(resume_from_checkpoint=checkpoint_to_resume(training))
        trainer.save_model(training.output_dir)
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=dataset_name)
    if hasattr(trainer, "end"):  # transformers 5.18 on
        trainer.end()
    return trainer


def _check(picking: SelectionArguments, training: SFTConfig, model: ModelConfig, data: TrainingData) -> None:
    from itl_hf.disk.checks import expand
    from itl_hf.embedding.store.store_checks import check_store_folder

    if data.name is None and picking.selection is None:
        raise ValueError(_NO_DATA)
    picking.check(training.packing)
    # The options have replaced `~` already.
    check_training_folder(Path(str(training.output_dir)), picking.overwrite, model.model_name_or_path)
    if picking.store is not None:
        check_store_folder(expand(picking.store), "--store")
    if model.model_name_or_path is None:
        raise ValueError("--model_name_or_path is missing: the model to train")
    if picking.eval_dataset_name is not None and training.eval_strategy == "no":
        warnings.warn("nothing is evaluated on --eval_dataset_name with --eval_strategy no", stacklevel=3)
