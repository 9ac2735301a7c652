"""Finds the picks nearest to a target, and the target nearest to a row of the pool.

Picks are compared by the kernel if the features are there, else by the saved columns.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.selection.defaults import resolve_kernel_spec
from itl_hf.selection.feature_arrays import as_rows, finite
from itl_hf.selection.row_selection import correlation

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.selection.result.selection import Selection


def nearest_picks(data: ExplorerData, selection: Selection, target: int, count: int = 8) -> list[tuple[int, float]]:
    """Returns the picks that are most similar to a target, the most similar first.

    Args:
        data (`ExplorerData`):
            With features, all picks are compared; without features, only the picks whose nearest target this is, since
            only their similarity is saved.
        selection (`Selection`):
            The selection whose picks are compared.
        target (`int`):
            Number of the target.
        count (`int`, *optional*, defaults to 8):
            Largest number of picks to return.

    Returns:
        `list[tuple[int, float]]`: Rank of the pick, from 0, and its prior correlation with the target under the kernel.
    """
    if data.pool_features is not None and not data.obstacle:
        similarity = _correlations(data, selection.indices, slice(target, target + 1))[:, 0]
    else:
        is_nearest = np.asarray(selection.dataset["itl_nearest_target"][:]) == target
        similarity = np.where(is_nearest, np.asarray(selection.dataset["itl_similarity"][:]), np.nan)
    order = np.argsort(-similarity, kind="stable")[:count]  # NaN is sorted last
    return [(int(rank), float(similarity[rank])) for rank in order if np.isfinite(similarity[rank])]


def nearest_target(data: ExplorerData, row: int) -> tuple[int, float] | None:
    """Returns the target most similar to a row of the pool, and their prior correlation; `None` without features."""
    if data.pool_features is None or data.obstacle:
        return None
    similarity = _correlations(data, np.asarray([row]), slice(None))[0]
    target = int(similarity.argmax())
    return target, float(similarity[target])


def _correlations(data: ExplorerData, rows: np.ndarray, targets: slice) -> np.ndarray:
    """Prior correlation of rows of the pool with some targets, (len(rows), len(targets))."""
    pool, target_rows = _prepared_features(data)
    gp = GaussianProcess(data.selection.record.kernel(), target_rows[targets], 1.0, 1.0)
    return correlation(pool.rows(rows.tolist()), gp).cpu().numpy()


@functools.lru_cache(maxsize=1)
def _prepared_features(data: ExplorerData) -> tuple[Pool, torch.Tensor]:
    """Standardized pool and targets. Cached, since fitting the standardization reads the whole pool."""
    standardize = data.selection.record.standardization()
    pool = Pool(as_rows(data.pool_features, "pool"), resolve_kernel_spec("linear", standardize).standardization)  # type: ignore[arg-type]
    target_rows = pool.preparation(finite(as_rows(data.target_features, "targets"), "targets"))  # type: ignore[arg-type]
    pool.release()
    return pool, target_rows
