"""Selecting again from the record of a selection: the same acquisition, kernel, noise and constraints.

The noise is the one that was used, also where a rule chose it, so that the picks before the first difference stay.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from itl_hf.embedding.row_reading import read_dataset
from itl_hf.selection.feature_arrays import Features
from itl_hf.selection.protocol import reads_text
from itl_hf.selection.result.record import SelectionRecord
from itl_hf.selection.row_selection import RowSelection
from itl_hf.selection.row_weights import RowNumbers
from itl_hf.selection.select_rows import select_rows
from itl_hf.text import TextRows

if TYPE_CHECKING:
    from datasets import Dataset


def check_reselectable(record: SelectionRecord) -> None:
    """Raises `ValueError` unless the record holds everything that selecting again needs.

    The message continues a sentence such as "Selecting again is not possible: ...".
    """
    record.acquisition()
    record.kernel()
    record.standardization()
    if record.shortlist is not None and "embedder" in record.shortlist:
        raise ValueError("its shortlist was made by another embedder, and only the rows on it have features")
    if record.skipped is not None and "pool" in record.skipped:
        raise ValueError("rows of its pool could not be read and were left out; select again from a pool without them")
    if record.already_selected:
        raise ValueError("it started from rows that the model was trained on before, and the record only counts them")
    if record.quality is not None and "column" not in record.quality:
        raise ValueError("its quality was given as numbers, which the record does not hold; name a column instead")
    if record.selection_constraints().counts_tokens:
        raise ValueError("its token budget counted tokens with the embedder's tokenizer, and the record has no counts")


def reselect(
    record: SelectionRecord,
    pool: Dataset,
    targets: Dataset,
    pool_features: Features,
    target_features: Features,
    num_examples: int,
    *,
    exclude: Collection[int] = (),
    target_weights: Sequence[float] | None = None,
) -> RowSelection:
    """Selects again with the settings of a record.

    Args:
        record (`SelectionRecord`):
            Of the earlier selection.
        pool (`Dataset`):
            The N rows that were selected from: columns of costs and groups are read, and texts where the acquisition
            reads them.
        targets (`Dataset`):
            The m targets.
        pool_features (`Features`):
            (N, d) features of the pool.
        target_features (`Features`):
            (m, d) features of the targets.
        num_examples (`int`):
            Rows to pick.
        exclude (`Collection[int]`, *optional*):
            Rows that may not be picked, beside those that the record excludes.
        target_weights (`Sequence[float]`, *optional*):
            m weights of the targets in place of those of the record.

    Raises:
        `ValueError`: If the record does not hold enough, or too few rows are left.
    """
    check_reselectable(record)
    acquisition = record.acquisition()
    constraints = record.selection_constraints()
    excluded_rows = sorted({*constraints.excluded_rows(len(pool)), *map(int, exclude)})
    constraints = dataclasses.replace(constraints, exclude=excluded_rows)
    weights = (record.target_weights or {}).get("values") if target_weights is None else target_weights
    numbers = RowNumbers.read(pool, targets, (record.quality or {}).get("column"), weights)
    texts = None
    if reads_text(acquisition):
        text_rows = TextRows(pool, record.column_mapping()), TextRows(targets)
        texts = tuple(read_dataset(rows, keep_texts=True).texts or [] for rows in text_rows)
    rows = select_rows(
        pool_features,
        target_features,
        num_examples,
        acquisition=acquisition,
        kernel=record.kernel(),
        standardize=record.standardization(),
        constraints=constraints.resolve(pool),
        texts=texts,  # type: ignore[arg-type]
        shortlist=record.shortlist_setting,
        quality=numbers.quality,
        target_weights=numbers.target_weights,
    )
    record_now = dataclasses.replace(
        rows.record,
        constraints=constraints.to_json(),
        embedder=record.embedder,
        targets_embedder=record.targets_embedder,
        pool_fingerprint=record.pool_fingerprint,
        targets_fingerprint=record.targets_fingerprint,
        pool_source=record.pool_source,
        versions=record.versions,
        formats=record.formats,
        columns=record.columns,
        coverage=record.coverage,
        quality=record.quality,
        target_weights=record.target_weights if target_weights is None else rows.record.target_weights,
    )
    return dataclasses.replace(rows, record=record_now)
