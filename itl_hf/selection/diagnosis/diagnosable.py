"""What a diagnosis reads of a `Selection`: a protocol, so that `Selection` can import the diagnosis."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from datasets import Dataset

from itl_hf.selection.result.record import SelectionRecord


class Diagnosable(Protocol):
    """The attributes of `itl_hf.selection.result.selection.Selection` that are read here."""

    @property
    def targets(self) -> Dataset:
        """The m target rows."""

    @property
    def indices(self) -> np.ndarray:
        """(n,) row numbers of the picks."""

    @property
    def gains(self) -> np.ndarray:
        """(n,) gain of each pick."""

    @property
    def target_variance(self) -> np.ndarray:
        """(n + 1, m) variance of each target after 0..n picks."""

    @property
    def irreducible(self) -> np.ndarray:
        """(m,) variance that no row of the pool can remove."""

    @property
    def whole_pool(self) -> np.ndarray:
        """(m,) variance that would be left after picking every row once."""

    @property
    def reach(self) -> np.ndarray:
        """(m,) largest prior correlation with any row of the pool."""

    @property
    def pool_size(self) -> int:
        """Rows of the pool."""

    @property
    def record(self) -> SelectionRecord:
        """The record of the selection."""
