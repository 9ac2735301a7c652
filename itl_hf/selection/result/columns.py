"""Columns that a selection and its publication add to rows, and checks that rows can get them and be saved."""

from __future__ import annotations

from datasets import Dataset

from itl_hf.selection.result.parquet import check_writable_columns

#: Columns that a selection adds to the picked rows.
COLUMNS = ("pool_index", "itl_rank", "itl_gain", "itl_nearest_target", "itl_similarity")
#: Column that is added to the picked rows when they are published; a selection itself does not have it.
VARIANCE_COLUMN = "itl_variance_left"
#: Column of rows that replace target prompts which were not published.
WITHHELD_COLUMN = "itl_withheld"


def check_columns(pool: Dataset, targets: Dataset) -> None:
    """Checks, before the model runs, that the columns of a selection are free and that its rows can be saved.

    Raises:
        `ValueError`: If a column has the name of one that a selection or its publication adds, if Parquet has no type
            for a column, or if the targets are placeholders of prompts that were not published.
    """
    occupied_columns = sorted({*COLUMNS, VARIANCE_COLUMN} & set(pool.column_names))
    if occupied_columns:
        raise ValueError(
            f"pool already has the columns {occupied_columns}, which a selection adds; rename or remove them first"
        )
    if WITHHELD_COLUMN in targets.column_names:
        raise ValueError(
            "targets are placeholders of prompts that were not published with a selection; select with the prompts "
            "themselves"
        )
    check_writable_columns(pool, "pool")
    check_writable_columns(targets, "targets")
