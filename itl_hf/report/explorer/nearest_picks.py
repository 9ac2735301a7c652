"""Which picks are nearest to a target: by the kernel where features are at hand, else by what the selection noted."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np
import torch

from itl_hf.gp.gaussian_process import GaussianProcess
from itl_hf.gp.pool import Pool
from itl_hf.selection.defaults import resolve_kernel_spec
from itl_hf.selection.feature_arrays import as_rows, finite
from itl_hf.selection.select_rows import correlation

if TYPE_CHECKING:
    from itl_hf.report.explorer.explorer_data import ExplorerData
    from itl_hf.selection.result.selection import Selection


def nearest_picks(explored: ExplorerData, selection: Selection, target: int, most: int = 8) -> list[tuple[int, float]]:
    """Picks by their similarity to a target, the most similar first.

    Args:
        explored (`ExplorerData`):
            With features, all picks are compared; without, only those that have this target as their nearest one.
        selection (`Selection`):
            Whose picks.
        target (`int`):
            Number of the target.
        most (`int`, *optional*, defaults to 8):
            Picks to return.

    Returns:
        `list[tuple[int, float]]`: place in the order of picks, and prior correlation under the kernel.
    """
    if explored.pool_features is not None and not explored.obstacle:
        similarity = _to_all(explored, selection.indices, target)
    else:
        serves = np.asarray(selection.dataset["itl_nearest_target"][:]) == target
        similarity = np.where(serves, np.asarray(selection.dataset["itl_similarity"][:]), np.nan)
    order = np.argsort(-similarity, kind="stable")[:most]  # NaN goes last
    return [(int(place), float(similarity[place])) for place in order if np.isfinite(similarity[place])]


def _to_all(explored: ExplorerData, rows: np.ndarray, target: int) -> np.ndarray:
    pool, targets = _prepared(explored)
    kernel = explored.selection.record.kernel()
    gp = GaussianProcess(kernel, targets[target : target + 1], 1.0, 1.0)
    return correlation(pool.rows(rows.tolist()), gp)[:, 0].cpu().numpy()


@functools.lru_cache(maxsize=1)
def _prepared(explored: ExplorerData) -> tuple[Pool, torch.Tensor]:
    """Fitting the preparation reads all of the pool, so it is done once."""
    standardize = explored.selection.record.standardization()
    pool = Pool(as_rows(explored.pool_features, "pool"), resolve_kernel_spec("linear", standardize).standardization)  # type: ignore[arg-type]
    anchors = pool.preparation(finite(as_rows(explored.target_features, "targets"), "targets"))  # type: ignore[arg-type]
    pool.release()
    return pool, anchors
