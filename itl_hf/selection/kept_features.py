"""`KeptFeatures`: feature rows in memory, with what was computed from them alone, for several selections from a pool.

Preparation, the prepared rows, the axes of the map and the pool's own reach depend on the pool and on nothing else.
`Selector` keeps them for the pool that it selected from last.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from itl_hf import distributed
from itl_hf.gp.pool import CACHE_BYTES, Pool

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from itl_hf.gp.standardization import Standardization


class KeptFeatures:
    """Feature rows (N, d) of one pool that are selected from again.

    Args:
        source (`np.ndarray` or `StoredFeatures`):
            The features; those on disk are read into memory.

    Example:
        >>> kept = KeptFeatures(np.eye(3, dtype=np.float32))
        >>> kept.pool(None, None) is kept.pool(None, None)
        True
    """

    def __init__(self, source: Any) -> None:
        self.source = source
        self.array = source if isinstance(source, np.ndarray) else source[:]
        self.shape: tuple[int, int] = self.array.shape
        self._pool: Pool | None = None
        self._key: tuple[Any, ...] = ()

    @staticmethod
    def fits(features: Any) -> bool:
        """Returns whether the features, and their prepared float32 copy, are small enough to stay in memory."""
        return bool(math.prod(features.shape) * 4 <= CACHE_BYTES)

    def pool(
        self, standardization: Standardization | None, quality: Tensor | None, device: torch.device | None = None
    ) -> Pool:
        """Returns the prepared pool; the last one if it was prepared in the same way.

        Args:
            standardization (`Standardization`, *optional*):
                What is done to the features first.
            quality (`Tensor`, *optional*):
                (N,) quality of the rows.
            device (`torch.device`, *optional*):
                Where rows are computed with.
        """
        key = (standardization, device, None if quality is None else quality.cpu().numpy().tobytes())
        if self._pool is None or self._key != key:
            self._pool = None  # its memory is free before the next one is prepared
            pool = Pool(self.array, standardization, quality, device)
            pool.is_kept = True
            self._pool, self._key = pool, key
        # A pool that was mapped to features of a kernel is one of its own.
        if self._pool.feature_map is not None:
            self._pool = self._pool.subset()
        return self._pool


def open_pool(
    pool: Any,
    rows: Any,
    standardization: Standardization | None,
    quality: Tensor | None,
    device: torch.device | None = None,
) -> Pool:
    """Returns the prepared pool of an argument of `select_rows`, whose rows are `rows`."""
    if isinstance(pool, KeptFeatures):
        return pool.pool(standardization, quality, device)
    return Pool(rows, standardization, quality, device)


def source_of(features: Any) -> Any:
    """Returns the features as they were embedded, such as `StoredFeatures`."""
    return features.source if isinstance(features, KeptFeatures) else features


def shares_work() -> bool:
    """Returns whether several processes work together; all of them must then do the same, whatever they have kept."""
    return distributed.world_size() > 1 or int(os.environ.get("WORLD_SIZE", "1")) > 1
