"""`itl-hf train`: selects, then trains TRL's SFTTrainer on the picks; or selects again before every epoch.

It takes TRL's arguments and those of `SelectionArguments`, from flags and a YAML file: a config that trains with
`trl sft` needs `targets` and `num_examples` added and nothing changed. Streamed datasets are not supported, because
they have no row numbers.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from itl_hf.cli import help_groups
from itl_hf.cli.group import call_on_each, call_on_first
from itl_hf.cli.help_groups import field_records, write_groups
from itl_hf.cli.output import Outcome, output_of, say_note
from itl_hf.cli.train_arguments import SelectionArguments, parse
from itl_hf.cli.training_folder import check_training_folder, checkpoint_to_resume, training_folder
from itl_hf.cli.without_model import embedder_without_model

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase
    from trl import DatasetMixtureConfig, ModelConfig, ScriptArguments, SFTConfig, SFTTrainer

    from itl_hf.embedding.embedders.base import Embedder
    from itl_hf.selection.result.selection import Selection

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

    began, data = time.monotonic(), _Data(picking, script, mixture)
    _check(picking, training, model, data)
    if picking.num_examples is None:
        raise ValueError("--dry_run estimates picking once: give --num_examples")
    selector = picking.selector(_embedder(picking, training, model))
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
    data = _Data(picking, script, mixture)
    call_on_each(lambda: _check(picking, training, model, data))
    is_first = training.process_index == 0
    with training_folder(Path(str(training.output_dir))) if is_first else contextlib.nullcontext():
        return _run(picking, data, training, model, script.dataset_name)


def _run(
    picking: SelectionArguments, data: _Data, training: SFTConfig, model: ModelConfig, dataset_name: str | None
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
        selection = _selection(picking, data, training, model)
        # The trainer tokenizes the picks only, not the whole pool.
        trainer = _trainer(_training_rows(selection), held_out, training, model)
        _attach_picks(trainer, selection, picking.order)
    else:
        trainer = _in_rounds(picking, data, held_out, training, model)
    check_sharding(trainer)
    with pause_watch():  # a process may be silent for minutes, as while it writes a checkpoint
        trainer.train(resume_from_checkpoint=checkpoint_to_resume(training))
        trainer.save_model(training.output_dir)
    if training.push_to_hub:
        trainer.push_to_hub(dataset_name=dataset_name)
    if hasattr(trainer, "end"):  # transformers 5.18 on
        trainer.end()
    return trainer


@dataclasses.dataclass(frozen=True)
class _Data:
    """Loads the pool, the targets and the evaluation rows when they are needed."""

    picking: SelectionArguments
    script: ScriptArguments
    mixture: DatasetMixtureConfig | None

    def __post_init__(self) -> None:
        if self.script.dataset_streaming or (self.mixture is not None and self.mixture.streaming):
            raise ValueError("a streamed dataset has no row numbers to pick: leave out dataset_streaming and streaming")

    @property
    def name(self) -> str | None:
        return "datasets" if self.mixture is not None and self.mixture.datasets else self.script.dataset_name

    def pool(self) -> Dataset:
        return self._split(self.script.dataset_train_split)

    def targets(self) -> Dataset:
        from itl_hf.cli.load_rows import load_rows

        return load_rows(str(self.picking.targets), self.picking.targets_split, self.picking.targets_config)

    def held_out(self) -> Dataset:
        from itl_hf.cli.load_rows import DEFAULT_SPLIT, is_file_name, load_rows

        name, split = self.picking.eval_dataset_name, self.script.dataset_test_split
        if name is not None:
            # TRL's own default is the split "test", which a file does not have.
            return load_rows(name, DEFAULT_SPLIT if split == "test" and is_file_name(name) else split)
        if self.name is None or Path(self.name).is_file():
            raise ValueError("eval_strategy needs rows to evaluate on: add --eval_dataset_name (a file has no splits)")
        return self._split(self.script.dataset_test_split)

    def _split(self, split: str) -> Dataset:
        from itl_hf.cli.load_rows import load_rows

        if self.mixture is None or not self.mixture.datasets:
            return load_rows(str(self.script.dataset_name), split, self.script.dataset_config)
        from trl import get_dataset

        splits = get_dataset(self.mixture)
        if split not in splits:
            raise ValueError(f"the mixture of datasets has no split {split!r}; its splits are {list(splits)}")
        return splits[split]


def _check(picking: SelectionArguments, training: SFTConfig, model: ModelConfig, data: _Data) -> None:
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


def _selection(picking: SelectionArguments, data: _Data, training: SFTConfig, model: ModelConfig) -> Selection:
    """Loads the selection of an earlier run, or makes a new one and saves it beside the model."""
    from accelerate.utils import release_memory

    from itl_hf import distributed
    from itl_hf.selection.result.assemble import package_versions
    from itl_hf.selection.result.folder import check_selection_folder, complete_selection
    from itl_hf.selection.result.selection import Selection
    from itl_hf.selection.result.transfer import load_from_first

    if picking.selection is not None:
        return call_on_each(lambda: Selection.load(str(picking.selection)))
    folder = Path(str(training.output_dir)) / "selection"
    settings = {**picking.decisive(), "model": model.model_name_or_path, **_pool_settings(data)}

    def find_earlier() -> bool:
        """Whether a selection is there that this run goes on with; raises if one is there that it must not replace."""
        earlier = _earlier_selection(folder)
        if training.resume_from_checkpoint and earlier is not None and earlier.record.arguments == settings:
            complete_selection(folder)
            return True
        # The same arguments, rows and versions give the same selection, which may be saved again.
        same = (settings, package_versions())
        if earlier is None or (earlier.record.arguments, earlier.record.versions) != same:
            check_selection_folder(folder, picking.overwrite, "output_dir/selection:")
        return False

    if call_on_first(find_earlier):  # other machines may have disks of their own
        return load_from_first(folder)
    selection = _select(picking, data, training, model)
    selection = dataclasses.replace(selection, record=dataclasses.replace(selection.record, arguments=settings))
    release_memory()  # the embedder's model: another one is loaded to be trained
    call_on_first(lambda: selection.save(folder, overwrite=picking.overwrite))
    if distributed.rank() == 0:
        say_note(f"{selection!r}\nsaved to {folder}")
    elif training.save_on_each_node and training.local_process_index == 0:
        selection.save(folder, overwrite=picking.overwrite)
    return selection


def _earlier_selection(folder: Path) -> Selection | None:
    """Returns the selection of an earlier run; `None` if there is none, or it is damaged."""
    from itl_hf.selection.result.selection import Selection

    try:
        return Selection.load(folder)
    except (FileNotFoundError, ValueError):
        return None


def _pool_settings(data: _Data) -> dict[str, Any]:
    script, mixture = data.script, data.mixture
    pool = {name: getattr(script, name) for name in ("dataset_name", "dataset_config", "dataset_train_split")}
    return pool if mixture is None else {**pool, "mixture": dataclasses.asdict(mixture)}


def _select(picking: SelectionArguments, data: _Data, training: SFTConfig, model: ModelConfig) -> Selection:
    from itl_hf.text import check_trainable

    pool, targets = call_on_each(lambda: (data.pool(), data.targets()))
    say_note(picking.formats(pool, targets))
    check_trainable(pool, picking.mapping)
    selector = picking.selector(_embedder(picking, training, model))
    selection = selector.select(
        pool,
        targets,
        int(picking.num_examples or 0),
        constraints=picking.constraints(),
        quality=picking.quality,
        target_weights=picking.target_weights,
        replay_share=picking.replay(picking.selection_seed),
        avoid=picking.avoid_argument(),
    )
    # What `extend` needs would keep the embedder's model in memory while another one is trained.
    return dataclasses.replace(selection, extend_fn=None)


def _training_rows(selection: Selection) -> Dataset:
    """Returns the picks as the trainer reads them, with their row numbers."""
    from itl_hf.text import training_rows

    rows = training_rows(selection.training_dataset, name="picks")
    return rows.add_column("pool_index", selection.training_indices.tolist())


def _embedder(picking: SelectionArguments, training: SFTConfig, model: ModelConfig) -> Embedder:
    """Builds the embedder with a model of its own, which is released before the model to train is loaded."""
    embedder = embedder_without_model(picking, picking, names_model=picking.embedding_model is not None)
    if embedder is not None:
        return embedder
    hub: dict[str, Any] = {"trust_remote_code": training.trust_remote_code}
    if picking.embedding_model is None:
        quantization = "4bit" if model.load_in_4bit else "8bit" if model.load_in_8bit else None
        hub |= {"revision": model.model_revision, "quantization": quantization}
        hub |= {"dtype": model.dtype} if model.dtype in ("bfloat16", "float16") else {}
        if training.chat_template_path is not None and picking.embedder != "sentence_encoder":
            hub["tokenizer"] = _tokenizer_with_template(training, model)
    return picking.build_embedder(picking.embedding_model or str(model.model_name_or_path), **hub)


def _tokenizer_with_template(training: SFTConfig, model: ModelConfig) -> PreTrainedTokenizerBase:
    """Returns the model's tokenizer with the chat template that training uses: of a file, or of another model.

    `SFTTrainer` also adds the other model's special tokens to the model. Their embeddings are untrained when rows are
    selected, so that they are read as ordinary text there.
    """
    from transformers import AutoTokenizer

    options = {"trust_remote_code": training.trust_remote_code}
    tokenizer = AutoTokenizer.from_pretrained(str(model.model_name_or_path), revision=model.model_revision, **options)
    path = Path(str(training.chat_template_path))
    if path.suffix in (".jinja", ".j2") and path.is_file():
        tokenizer.chat_template = path.read_text(encoding="utf-8")
    else:
        tokenizer.chat_template = AutoTokenizer.from_pretrained(str(path), **options).chat_template
    return tokenizer


def _attach_picks(trainer: SFTTrainer, selection: Selection, order: str) -> None:
    """Attaches the picks that the trainer kept, in the order that was asked for."""
    from itl_hf.training.attach_trainer import attach

    if trainer.args.packing:  # packing merges the picks and orders the packs itself
        return
    row_numbers = selection.training_indices  # (n,)
    if len(trainer.train_dataset) < len(row_numbers):
        import numpy as np

        is_kept = np.isin(row_numbers, trainer.train_dataset["pool_index"][:])  # (n,)
        warnings.warn(
            f"SFTTrainer dropped {len(is_kept) - is_kept.sum()} of the {len(is_kept)} picks: within max_length="
            f"{trainer.args.max_length} tokens nothing of their completions is left. Training goes on without them.",
            stacklevel=2,
        )
        rows = selection.training_dataset.select(np.flatnonzero(is_kept))
        selection = dataclasses.replace(selection, indices=row_numbers[is_kept], dataset=rows, replay=None)
    attach(trainer, selection, order=order)  # type: ignore[arg-type]  # attach checks it


def _in_rounds(
    picking: SelectionArguments, data: _Data, held_out: Dataset | None, training: SFTConfig, model: ModelConfig
) -> SFTTrainer:
    """Builds a trainer that selects before each epoch with the features of the current model."""
    from itl_hf.text import ColumnMapping, TextRows, as_targets, training_rows
    from itl_hf.text.trained_rows import beside_other_columns
    from itl_hf.training.attach_trainer import attach
    from itl_hf.training.pick_positions import ID_COLUMN

    mapping = picking.mapping
    targets, own_pool = call_on_each(lambda: (data.targets(), data.pool()))
    say_note(picking.formats(own_pool, targets))
    # In the columns that trainers read, with those of groups and costs.
    source_columns = TextRows(own_pool, mapping).format.columns
    pool = beside_other_columns(training_rows(own_pool, mapping), own_pool, source_columns)
    # The trainer may drop rows while it prepares them; the numbers say which are left.
    numbered_pool = pool if ID_COLUMN in pool.column_names else pool.add_column(ID_COLUMN, list(range(len(pool))))
    trainer = _trainer(numbered_pool, held_out, training, model)
    embedder = picking.build_embedder(trainer.model, tokenizer=trainer.processing_class)
    return attach(
        trainer,
        picking.selector(embedder).of_read_rows(),
        targets=as_targets(targets, pool, columns=ColumnMapping.of(picking.targets_columns) or mapping),
        examples_per_round=picking.examples_per_round,
        candidates_per_round=picking.candidates_per_round,
        pool=pool,
        constraints=picking.constraints(),
        quality=picking.quality,
        target_weights=picking.target_weights,
        order=picking.order,  # type: ignore[arg-type]  # attach checks it
    )


def _trainer(rows: Dataset, held_out: Dataset | None, training: SFTConfig, model: ModelConfig) -> SFTTrainer:
    """Builds the trainer as `trl sft` does."""
    from trl import SFTTrainer, get_peft_config, get_quantization_config

    training.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
        "trust_remote_code": training.trust_remote_code,
        **(training.model_init_kwargs or {}),
    }
    return SFTTrainer(
        model=model.model_name_or_path,
        args=training,
        train_dataset=rows,
        eval_dataset=held_out,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )
