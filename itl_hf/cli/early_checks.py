"""What the commands refuse before a model is loaded: options that do not fit the rows. For paths: `itl_hf.disk`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datasets import Dataset

    from itl_hf.cli.arguments import PickingArguments
    from itl_hf.text import ColumnMapping


def check_picking_fits(
    picking: PickingArguments,
    pool: Dataset,
    targets: Dataset,
    num_examples: int,
    rows_to_exclude: Dataset | None = None,
) -> None:
    """Raises `ValueError` if columns are missing, numbers are out of range, or there are fewer rows than asked for.

    Args:
        picking (`PickingArguments`):
            The options.
        pool (`Dataset`):
            The rows to pick from.
        targets (`Dataset`):
            The targets.
        num_examples (`int`):
            Rows to pick.
        rows_to_exclude (`Dataset`, *optional*):
            Rows whose prompts must not be picked.
    """
    from itl_hf.text import ColumnMapping
    from itl_hf.text.template_options import check_template_options

    columns = {"quality": picking.quality, "costs": picking.costs, "groups": picking.groups}
    for name, column in columns.items():
        if column is not None and column not in pool.column_names:
            raise ValueError(f"{name}: the pool has no column {column!r}; its columns are {pool.column_names}")
    weights = picking.target_weights
    if weights is not None and weights not in targets.column_names:
        raise ValueError(
            f"target_weights: no column {weights!r} in the targets; their columns are {targets.column_names}"
        )
    for name, rows in (("pool", pool), ("targets", targets)) if picking.on_bad_rows == "error" else ():
        check_template_options(rows, name)
    mapping = ColumnMapping.of(picking.targets_columns)
    if mapping is not None:
        mapping.format(targets.column_names, is_targets=True)
    if rows_to_exclude is not None:
        check_format(rows_to_exclude, "exclude", picking.mapping)
    for name, number in (("token_budget", picking.token_budget), ("group_shares", picking.group_shares)):
        if number is not None and not 0 < number < math.inf:
            raise ValueError(f"--{name} must be a positive, finite number, got {number}")
    if picking.group_shares is not None and picking.group_shares > 1:
        raise ValueError(f"--group_shares must be a share of the picks, from 0 to 1, got {picking.group_shares}")
    if num_examples > len(pool) and not picking.replace:
        raise ValueError(
            f"num_examples={num_examples} is more than the {len(pool)} rows of the pool: ask for fewer rows, or add "
            "--replace"
        )


def check_format(rows: Dataset, name: str, mapping: ColumnMapping | None = None) -> None:
    """Raises `ValueError` if no format of rows fits the columns."""
    from itl_hf.text import TextRows
    from itl_hf.text.template_options import check_template_options

    check_template_options(rows, name)
    try:
        _ = TextRows(rows, mapping if mapping is not None and mapping.fits(rows.column_names) else None, name).format
    except ValueError as error:
        raise ValueError(str(error) if name in str(error) else f"{name}: {error}") from None
