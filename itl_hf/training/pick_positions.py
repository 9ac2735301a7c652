"""Are the picks rows of the dataset that this trainer walks, and where?

Picks are row numbers, so everything rests on the trainer's dataset being the pool, row for row, or on a column that
says which row of the pool each of its rows was. What can be seen from the outside is checked before training: packing,
shuffling, streams, the number of rows, and the text of up to 64 rows where the trainer still holds it. A pool of the
same length whose text the trainer no longer has is taken on trust.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import datasets
import numpy as np
import torch

if TYPE_CHECKING:
    from transformers import Trainer

ID_COLUMN = "itl_index"
#: What `Selection.dataset` calls the rows of the pool.
PICKED_COLUMN = "pool_index"
INSTEAD = "build the trainer with train_dataset=selection.dataset, without attach"
COMPARED_COLUMNS = ("messages", "prompt", "completion", "text")
COMPARED_ROWS = 64


def check_trainer(trainer: Trainer) -> None:
    """Raises unless the trainer lets a sampler decide its training rows.

    Raises:
        `ValueError`: No training dataset, a stream, or packed rows.
        `TypeError`: No `transformers.Trainer`, or one with a training order of its own.
    """
    from transformers import Trainer

    if not isinstance(trainer, Trainer):
        raise TypeError(
            f"attach needs a transformers.Trainer, not {type(trainer).__name__}: use SelectionSampler there."
        )
    if type(trainer)._get_train_sampler is not Trainer._get_train_sampler:
        raise TypeError(f"{type(trainer).__name__} brings a training order that it relies on; {INSTEAD}.")
    if trainer.train_dataset is None:
        raise ValueError("The trainer has no train_dataset. Build it with the pool you selected from as train_dataset.")
    streams = isinstance(trainer.train_dataset, (torch.utils.data.IterableDataset, datasets.IterableDataset))
    if streams or not hasattr(trainer.train_dataset, "__len__"):
        raise ValueError(
            f"The trainer's train_dataset is an iterable ({type(trainer.train_dataset).__name__}), in which no row can "
            f"be looked up by its number: {INSTEAD}."
        )
    if isinstance(trainer.train_dataset, dict):
        raise ValueError(
            f"The trainer's train_dataset is a dictionary of datasets ({', '.join(map(str, trainer.train_dataset))}), "
            "in which a row number names several rows: join them with datasets.concatenate_datasets, select from that."
        )
    if getattr(trainer.args, "packing", False):
        raise ValueError(f"With packing=True the trainer merges rows, so single picks cannot be found: {INSTEAD}.")


def pick_positions(trainer: Trainer, picks: np.ndarray, selection: Any) -> np.ndarray:
    """Where the picks are in the trainer's dataset.

    Args:
        trainer (`transformers.Trainer`):
            Checked by `check_trainer`.
        picks (`np.ndarray`):
            Shape `(n,)`, row numbers of the pool.
        selection ([`Selection`] or row numbers):
            Where they come from; a selection knows more of its pool.

    Returns:
        `np.ndarray`: shape `(n,)`, int64.

    Raises:
        `ValueError`: The trainer's dataset is not the pool, or a pick is no longer in it.
    """
    dataset = trainer.train_dataset
    if not has_ids(dataset) and PICKED_COLUMN in (getattr(dataset, "column_names", None) or ()):
        held = _ids(dataset, PICKED_COLUMN)  # train_dataset=selection.dataset
        positions = np.arange(len(held)) if np.array_equal(held, picks) else _look_up(dataset, picks, PICKED_COLUMN)
        _require_found(picks, positions, PICKED_COLUMN)
        return positions
    if has_ids(dataset):
        wanted = ids_of(getattr(selection, "dataset", None), picks)
        positions = _look_up(dataset, wanted)
        _require_found(wanted, positions)
        return positions
    _check_unmoved(trainer, getattr(selection, "pool_size", None))
    num_rows = len(dataset)  # type: ignore[arg-type]
    outside = np.unique(picks[picks >= num_rows])
    if outside.size:
        raise ValueError(f"The trainer's train_dataset has {num_rows} rows; picked but not in it: {_some(outside)}.")
    return picks


def pool_positions(trainer: Trainer, pool: datasets.Dataset) -> np.ndarray:
    """Where each row of the pool is in the trainer's dataset, shape `(N,)`; -1 where the trainer dropped it."""
    rows = ids_of(pool, np.arange(len(pool)))  # (N,)
    if not has_ids(trainer.train_dataset):
        _check_unmoved(trainer, len(pool))
        return np.arange(len(pool))
    positions = _look_up(trainer.train_dataset, rows)  # (N,)
    if not (positions >= 0).any():
        _require_found(rows, positions)
    return positions


def has_ids(dataset: Any) -> bool:
    """Whether a dataset says which row of the pool each of its rows was."""
    return ID_COLUMN in (getattr(dataset, "column_names", None) or ())


def ids_of(rows: Any, numbers: np.ndarray) -> np.ndarray:
    """What the id column calls these rows of the pool: its own values where it has them, else their row numbers."""
    return _ids(rows) if has_ids(rows) else numbers


def check_text(trainer: Trainer, positions: np.ndarray, rows: Any) -> None:
    """Compares the text of rows of the pool with the trainer's, as far as the trainer still has it.

    Args:
        trainer (`transformers.Trainer`):
            The trainer.
        positions (`np.ndarray`):
            Shape `(n,)`, where `rows` should be in its dataset; -1 where they are not.
        rows (`datasets.Dataset`):
            `n` rows of the pool. Anything else is not compared.

    Raises:
        `ValueError`: A row has another text there; the row and the column are named.
    """
    dataset = trainer.train_dataset
    if not (isinstance(dataset, datasets.Dataset) and isinstance(rows, datasets.Dataset)):
        return
    columns = [name for name in COMPARED_COLUMNS if name in rows.column_names and name in dataset.column_names]
    present = np.flatnonzero(positions >= 0)
    if not columns or not present.size:
        return
    sample = np.unique(present[np.linspace(0, present.size - 1, min(COMPARED_ROWS, present.size)).astype(np.int64)])
    ours = rows.select_columns(columns).with_format(None)[sample]
    theirs = dataset.select_columns(columns).with_format(None)[positions[sample]]
    for column in columns:
        for at, raw, prepared in zip(sample, ours[column], theirs[column], strict=True):
            if not _same(raw, prepared):
                raise ValueError(
                    f"Row {positions[at]} of the trainer's train_dataset has another {column!r} than the row that was "
                    f"picked: {_short(prepared)} where the selection has {_short(raw)}. The picks were made from "
                    f"another dataset, or its rows have moved. Pass the pool itself as train_dataset, or {INSTEAD}. "
                    "(If these are the same rows and only their text was edited, attach selection.indices.)"
                )


def rows_per_step(trainer: Trainer) -> int:
    """Rows that all processes take together before accelerate deals out the next batches."""
    args = trainer.args
    return args.train_batch_size * (1 if trainer.accelerator.split_batches else args.world_size)


def warn_about_strategy(trainer: Trainer, stacklevel: int = 3) -> None:
    """Says that the attached selection takes the place of `train_sampling_strategy`."""
    strategy = getattr(trainer.args, "train_sampling_strategy", "random")
    if strategy != "random":
        warnings.warn(
            f"train_sampling_strategy={getattr(strategy, 'value', strategy)!r} has no effect on training any more: the "
            "attached selection decides the order.",
            stacklevel=stacklevel,
        )


def warn_about_tail(trainer: Trainer, num_picks: int, stacklevel: int = 3) -> None:
    """Says which picks an epoch trains on twice, or not at all, where they do not divide into steps."""
    args, accelerator, step = trainer.args, trainer.accelerator, rows_per_step(trainer)
    left = num_picks % step
    if left == 0 or args.process_index != 0:
        return
    if args.dataloader_drop_last:
        effect = f"with dataloader_drop_last=True the last {left} of them are left out of every epoch"
    elif args.world_size > 1 and accelerator.even_batches:
        effect = (
            f"so the last step of every epoch is filled up with {step - left} that were trained on already, "
            f"for all {args.world_size} processes to take equally many steps"
        )
    else:
        return
    warnings.warn(
        f"{num_picks} picks do not divide into batches of {step} over all processes; {effect}. Select a "
        f"multiple of {step} to avoid it, or pass remainder='drop' to leave the last {left} out.",
        stacklevel=stacklevel,
    )


def _check_unmoved(trainer: Trainer, pool_size: int | None) -> None:
    if getattr(trainer.args, "shuffle_dataset", False):
        raise ValueError(
            "With shuffle_dataset=True the trainer has moved the rows that the picks point at. Set "
            "shuffle_dataset=False: the order comes from attach (order='shuffled' shuffles the picks)."
        )
    num_rows = len(trainer.train_dataset)  # type: ignore[arg-type]
    if pool_size is not None and num_rows != pool_size:
        raise ValueError(
            f"The picks are row numbers of a pool of {pool_size} rows, but the trainer's train_dataset has {num_rows}. "
            f"Pass the pool itself as train_dataset, or {INSTEAD}. If the trainer drops rows while it prepares them, "
            f"give the pool a column '{ID_COLUMN}' with its row numbers first: "
            f"pool.add_column('{ID_COLUMN}', range(len(pool)))."
        )


def _look_up(dataset: Any, picks: np.ndarray, column: str = ID_COLUMN) -> np.ndarray:
    """Position of each pick by the id column, shape `(n,)`; -1 where it is not there."""
    ids = _ids(dataset, column)  # (N,)
    if not len(ids):
        return np.full(len(picks), -1)
    order = np.argsort(ids, kind="stable")  # (N,)
    ids = ids[order]
    if (repeated := np.unique(ids[1:][ids[1:] == ids[:-1]])).size:
        raise ValueError(
            f"Column '{column}' of the train_dataset must not repeat a number; it does: {_some(repeated)}."
        )
    places = np.minimum(np.searchsorted(ids, picks), len(ids) - 1)  # (n,)
    return np.where(ids[places] == picks, order[places], -1)


def _ids(dataset: Any, column: str = ID_COLUMN) -> np.ndarray:
    ids = np.asarray(dataset.select_columns([column]).with_format("numpy")[:][column])  # (N,)
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"Column '{column}' of the train_dataset must hold whole numbers, one in every row.")
    return ids


def _require_found(picks: np.ndarray, positions: np.ndarray, column: str = ID_COLUMN) -> None:
    missing = np.unique(picks[positions < 0])
    if missing.size:
        raise ValueError(
            f"{missing.size} of the {len(np.unique(picks))} picked rows are not in column '{column}' of the "
            f"trainer's train_dataset: {_some(missing)}. Either the trainer dropped them while preparing its data "
            "(rows with nothing left to learn after truncation, for one): leave them out of the pool and select again. "
            "Or the column numbers the rows of another pool."
        )


def _some(rows: np.ndarray) -> str:
    return "rows " + ", ".join(map(str, rows[:10])) + (f" and {rows.size - 10} more" if rows.size > 10 else "")


def _same(raw: Any, prepared: Any) -> bool:
    if isinstance(raw, str) and isinstance(prepared, str):
        return prepared.startswith(raw)  # SFTTrainer puts the end-of-sequence token behind
    if isinstance(raw, list) and isinstance(prepared, list):
        return _messages(raw) == _messages(prepared)
    return raw is None or prepared is None or type(raw) is not type(prepared) or bool(raw == prepared)


def _messages(values: list[Any]) -> list[Any]:
    # One table for all messages fills absent keys with None, and which keys are absent depends on the table.
    return [
        {key: content for key, content in value.items() if content is not None} if isinstance(value, dict) else value
        for value in values
    ]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
