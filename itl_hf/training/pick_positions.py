"""Maps picks to positions in the trainer's dataset and checks that this dataset is the pool.

Picks are row numbers of the pool. They are positions in the trainer's dataset only if that is the pool, row for row, or
if it has a column with the row number in the pool of each of its rows. Before training, everything that can be checked
from outside is checked: shuffling, the number of rows, and the text of up to 64 rows where the trainer still holds it.
A dataset of the same length whose text the trainer no longer holds is assumed to be the pool.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import datasets
import numpy as np

from itl_hf.text.trained_rows import as_trained
from itl_hf.training.repeated_prompts import repetition_of
from itl_hf.training.sampler import training_dataset_of
from itl_hf.training.trainer_checks import ALTERNATIVE

if TYPE_CHECKING:
    from transformers import Trainer

#: Column of a trainer's dataset with the row number in the pool.
ID_COLUMN = "itl_index"
#: Column of `Selection.dataset` with the row number in the pool.
POOL_INDEX_COLUMN = "pool_index"
COMPARED_COLUMNS = ("messages", "prompt", "completion", "text")
NUM_COMPARISONS = 64


def pick_positions(trainer: Trainer, picks: np.ndarray, selection: Any) -> np.ndarray:
    """Maps picks to positions in the trainer's dataset.

    Args:
        trainer (`transformers.Trainer`):
            A trainer that passed `check_trainer`.
        picks (`np.ndarray`):
            Shape `(n,)`, row numbers of the pool.
        selection ([`Selection`] or row numbers):
            What the picks were read from. Of a selection, the size of the pool and the id column are used as well.

    Returns:
        `np.ndarray`: The positions, shape `(n,)`, int64.

    Raises:
        `ValueError`: If the trainer's dataset is not the pool, or a pick is no longer in it.
    """
    dataset = trainer.train_dataset
    if has_ids(dataset):
        ids = ids_of(training_dataset_of(selection), picks)  # (n,)
        positions = _look_up(dataset, ids)
        _check_all_present(ids, positions)
        return positions
    if POOL_INDEX_COLUMN in (getattr(dataset, "column_names", None) or ()):  # train_dataset=selection.dataset
        pool_indices = _read_ids(dataset, POOL_INDEX_COLUMN)
        if np.array_equal(pool_indices, picks):  # in the same order; the same row may have been picked twice
            return np.arange(len(picks))
        if getattr(selection, "replay", None) is not None and len(dataset) == len(selection):  # type: ignore[arg-type]
            raise ValueError(
                "The trainer's train_dataset holds the picks without the rows of replay_share: build it with "
                "train_dataset=selection.training_dataset."
            )
        positions = _look_up(dataset, picks, POOL_INDEX_COLUMN)
        _check_all_present(picks, positions, POOL_INDEX_COLUMN)
        return positions
    _check_same_rows(trainer, getattr(selection, "pool_size", None))
    num_rows = len(dataset)  # type: ignore[arg-type]
    outside = np.unique(picks[picks >= num_rows])
    if outside.size:
        raise ValueError(
            f"The trainer's train_dataset has {num_rows} rows; picked but not in it: {_format_rows(outside)}."
        )
    return picks


def pool_positions(trainer: Trainer, pool: datasets.Dataset) -> np.ndarray:
    """Maps each row of the pool to its position in the trainer's dataset.

    Returns:
        `np.ndarray`: The positions, shape `(N,)`; -1 for rows that the trainer dropped.

    Raises:
        `ValueError`: If the trainer's dataset is not the pool.
    """
    ids = ids_of(pool, np.arange(len(pool)))  # (N,)
    if not has_ids(trainer.train_dataset):
        _check_same_rows(trainer, len(pool))
        return np.arange(len(pool))
    positions = _look_up(trainer.train_dataset, ids)  # (N,)
    if not (positions >= 0).any():
        _check_all_present(ids, positions)
    return positions


def has_ids(dataset: Any) -> bool:
    """Returns whether a dataset has the column with row numbers of the pool."""
    return ID_COLUMN in (getattr(dataset, "column_names", None) or ())


def ids_of(rows: Any, pool_indices: np.ndarray) -> np.ndarray:
    """Returns the values of the id column for rows of the pool, or their row numbers if they have no such column."""
    return _read_ids(rows) if has_ids(rows) else pool_indices


def check_text(trainer: Trainer, positions: np.ndarray, rows: Any) -> None:
    """Compares the text of rows of the pool with the text in the trainer's dataset, if the trainer still holds it.

    Args:
        trainer (`transformers.Trainer`):
            The trainer.
        positions (`np.ndarray`):
            Shape `(n,)`, the expected positions of `rows` in the trainer's dataset; -1 for rows that are not in it.
        rows (`datasets.Dataset`):
            `n` rows of the pool. Other types are not compared.

    Raises:
        `ValueError`: If the text of a row differs; the message names the row and the column.
    """
    dataset = trainer.train_dataset
    if not (isinstance(dataset, datasets.Dataset) and isinstance(rows, datasets.Dataset)):
        return
    columns = [name for name in COMPARED_COLUMNS if name in rows.column_names and name in dataset.column_names]
    present = np.flatnonzero(positions >= 0)
    if not columns or not present.size:
        return
    sample = np.unique(present[np.linspace(0, present.size - 1, min(NUM_COMPARISONS, present.size)).astype(np.int64)])
    pool_text = rows.select_columns(columns).with_format(None)[sample]
    trainer_text = dataset.select_columns(columns).with_format(None)[positions[sample]]
    for column in columns:
        for row, pool_value, trainer_value in zip(sample, pool_text[column], trainer_text[column], strict=True):
            if not _is_same_text(as_trained(column, pool_value), as_trained(column, trainer_value)):
                raise ValueError(
                    f"Row {positions[row]} of the trainer's train_dataset has another {column!r} than the row that was "
                    f"picked: {_shorten(trainer_value)} where the selection has {_shorten(pool_value)}. The picks were "
                    "made from another dataset, or its rows have moved. Pass the pool itself as train_dataset, or "
                    f"{ALTERNATIVE}. (If these are the same rows and only their text was edited, attach "
                    "selection.indices.)"
                )


def _check_same_rows(trainer: Trainer, pool_size: int | None) -> None:
    """Raises `ValueError` if the trainer shuffled its rows or has another number of rows than the pool."""
    # Trainers that repeat their prompts shuffle in their sampler, which the selection replaces; the rows stay in place.
    if getattr(trainer.args, "shuffle_dataset", False) and repetition_of(trainer) is None:
        raise ValueError(
            "With shuffle_dataset=True the trainer has moved the rows that the picks refer to. Set "
            "shuffle_dataset=False: the order comes from attach (order='shuffled' shuffles the picks)."
        )
    num_rows = len(trainer.train_dataset)  # type: ignore[arg-type]
    if pool_size is not None and num_rows != pool_size:
        raise ValueError(
            f"The picks are row numbers of a pool of {pool_size} rows, but the trainer's train_dataset has {num_rows}. "
            f"Pass the pool itself as train_dataset, or {ALTERNATIVE}. If the trainer drops rows while it prepares "
            f"them, give the pool a column '{ID_COLUMN}' with its row numbers first: "
            f"pool.add_column('{ID_COLUMN}', range(len(pool)))."
        )


def _look_up(dataset: Any, ids: np.ndarray, column: str = ID_COLUMN) -> np.ndarray:
    """Returns the position of each id in a column of the dataset, shape `(n,)`; -1 if it is not in the column."""
    column_ids = _read_ids(dataset, column)  # (N,)
    if not len(column_ids):
        return np.full(len(ids), -1)
    order = np.argsort(column_ids, kind="stable")  # (N,)
    column_ids = column_ids[order]
    if (duplicates := np.unique(column_ids[1:][column_ids[1:] == column_ids[:-1]])).size:
        raise ValueError(
            f"Column '{column}' of the train_dataset must not repeat a number; it does: {_format_rows(duplicates)}."
        )
    places = np.minimum(np.searchsorted(column_ids, ids), len(column_ids) - 1)  # (n,)
    return np.where(column_ids[places] == ids, order[places], -1)


def _read_ids(dataset: Any, column: str = ID_COLUMN) -> np.ndarray:
    ids = np.asarray(dataset.select_columns([column]).with_format("numpy")[:][column])  # (N,)
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"Column '{column}' of the train_dataset must hold whole numbers, one in every row.")
    return ids


def _check_all_present(ids: np.ndarray, positions: np.ndarray, column: str = ID_COLUMN) -> None:
    """Raises `ValueError` if an id has no position."""
    missing = np.unique(ids[positions < 0])
    if missing.size:
        raise ValueError(
            f"{missing.size} of the {len(np.unique(ids))} picked rows are not in column '{column}' of the "
            f"trainer's train_dataset: {_format_rows(missing)}. Either the trainer dropped them while preparing its "
            "data (for example rows with no tokens left to learn after truncation): leave them out of the pool and "
            "select again. Or the column numbers the rows of another pool."
        )


def _format_rows(rows: np.ndarray) -> str:
    return "rows " + ", ".join(map(str, rows[:10])) + (f" and {rows.size - 10} more" if rows.size > 10 else "")


def _is_same_text(pool_value: Any, trainer_value: Any) -> bool:
    if isinstance(pool_value, str) and isinstance(trainer_value, str):
        return trainer_value.startswith(pool_value)  # SFTTrainer appends the end-of-sequence token
    if isinstance(pool_value, list) and isinstance(trainer_value, list):
        return bool(_without_absent_keys(pool_value) == _without_absent_keys(trainer_value))
    if pool_value is None or trainer_value is None or type(pool_value) is not type(trainer_value):
        return True  # not comparable
    return bool(pool_value == trainer_value)


def _without_absent_keys(value: Any) -> Any:
    """Returns the value without keys at `None`, at any depth: Arrow gives the keys of every row to all rows."""
    if isinstance(value, dict):
        return {key: _without_absent_keys(part) for key, part in value.items() if part is not None}
    return [_without_absent_keys(part) for part in value] if isinstance(value, list) else value


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
