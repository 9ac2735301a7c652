"""The map of a selection by UMAP (package umap-learn, extra `umap`).

For pools whose kinds of rows overlap in two principal components. Neighbouring rows stay neighbours; distances between
groups mean nothing. It takes a minute for 20,000 rows.
"""

from __future__ import annotations

import importlib.util
import warnings
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from itl_hf.gp.pool import Pool, spaced_rows
from itl_hf.selection.result.layout import SAMPLE_ROWS, principal_layout
from itl_hf.selection.result.selection import Layout

LayoutName = Literal["pca", "umap"]


def check_layout(name: str) -> None:
    """Raises `ValueError` for an unknown kind of map, `ImportError` if UMAP is not installed."""
    if name not in ("pca", "umap"):
        raise ValueError(f"layout must be 'pca' or 'umap', got {name!r}")
    if name == "umap" and importlib.util.find_spec("umap") is None:
        raise ImportError("layout='umap' needs umap-learn: pip install 'itl-hf[umap]'")


def layout_of(name: LayoutName, pool: Pool, targets: Tensor, picks: list[int]) -> Layout:
    """Returns the map of this kind; the arguments are those of `principal_layout`."""
    return (umap_layout if name == "umap" else principal_layout)(pool, targets, picks)


def umap_layout(pool: Pool, targets: Tensor, picks: list[int]) -> Layout:
    """Maps an evenly spaced sample of the pool, the targets and the picks to two dimensions, the same every time.

    Args:
        pool (`Pool`):
            Prepared pool rows.
        targets (`Tensor`):
            (m, d) prepared target rows.
        picks (`list[int]`):
            Picked row numbers.
    """
    from umap import UMAP

    numbers = list(spaced_rows(pool.num_rows, SAMPLE_ROWS))
    rows = torch.cat([pool.rows(numbers), targets.cpu(), pool.rows(picks)]).float().numpy()  # (P + m + n, d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # UMAP warns that a seed makes it run on one thread, which is intended
        places = UMAP(n_neighbors=min(15, len(rows) - 1), random_state=0).fit_transform(rows).astype(np.float32)
    sample, aims, pick_positions = np.split(places, [len(numbers), len(numbers) + len(targets)])
    return Layout(
        sample, np.asarray(numbers, dtype=np.int64), aims, pick_positions, np.zeros(2, dtype=np.float32), "umap"
    )
