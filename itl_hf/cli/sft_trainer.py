"""Builds the `SFTTrainer` of `itl-hf train`: on the picks of a selection, or on rows picked before each epoch."""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING

from itl_hf.cli.group import call_on_each
from itl_hf.cli.output import say_note
from itl_hf.cli.train_arguments import SelectionArguments
from itl_hf.cli.train_data import TrainingData

if TYPE_CHECKING:
    from datasets import Dataset
    from trl import ModelConfig, SFTConfig, SFTTrainer

    from itl_hf.selection.result.selection import Selection


def trainer_on_picks(
    picking: SelectionArguments, selection: Selection, held_out: Dataset | None, training: SFTConfig, model: ModelConfig
) -> SFTTrainer:
    """Builds a trainer on the picks of a selection, in the order that was asked for."""
    # The trainer tokenizes the picks only, not the whole pool.
    trainer = _build_trainer(_training_rows(selection), held_out, training, model)
    _attach_picks(trainer, selection, picking.order)
    return trainer


def _training_rows(selection: Selection) -> Dataset:
    """Returns the picks as the trainer reads them, with their row numbers."""
    from itl_hf.text import training_rows

    rows = training_rows(selection.training_dataset, name="picks")
    return rows.add_column("pool_index", selection.training_indices.tolist())


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


def trainer_in_rounds(
    picking: SelectionArguments, data: TrainingData, held_out: Dataset | None, training: SFTConfig, model: ModelConfig
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
    trainer = _build_trainer(numbered_pool, held_out, training, model)
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


def _build_trainer(rows: Dataset, held_out: Dataset | None, training: SFTConfig, model: ModelConfig) -> SFTTrainer:
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
