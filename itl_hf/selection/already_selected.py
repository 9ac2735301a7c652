"""The rows that the model was trained on before: row numbers of the pool, or features."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from itl_hf.gp.pool import Pool
from itl_hf.selection.feature_arrays import as_rows, check_row_numbers, finite, refuse_masked


def read_already_selected(already_selected: Any, pool: Any) -> tuple[list[int], Tensor]:
    """What the model was trained on before: row numbers of the pool, or (h, d) feature rows.

    Raises:
        `ValueError`: If they are neither.
    """
    no_rows = torch.zeros(0, pool.shape[1])
    if already_selected is None:
        return [], no_rows
    if not hasattr(already_selected, "__len__"):  # check_row_numbers says what it must be
        return check_row_numbers(already_selected, pool.shape[0], "already_selected"), no_rows
    if len(already_selected) == 0:
        return [], no_rows
    refuse_masked(already_selected, "already_selected")
    array = already_selected if isinstance(already_selected, Tensor) else np.asarray(already_selected)
    if array.ndim == 2:
        rows = finite(as_rows(array, "already_selected"), "already_selected")
        if rows.shape[1] != pool.shape[1]:
            raise ValueError(f"`already_selected` rows have {rows.shape[1]} features and `pool` rows {pool.shape[1]}")
        return [], rows
    return check_row_numbers(already_selected, pool.shape[0], "already_selected"), no_rows


def prepare_observed(pool: Pool, indices: list[int], features: Tensor) -> Tensor:
    """The prepared rows that the model was trained on before, (h, d)."""
    return pool.rows(indices) if indices else pool.prepare(features.to(pool.device))
